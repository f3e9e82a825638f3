"""Runs a build's programs through the supervisor: `sandbox.run` and its notifications, from the server's side."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Awaitable, Callable

from local.sandbox.spec import SandboxSpec
from orchestrator_runtime.contract.wire import Handler, Message, Peer


class SupervisorSandbox:
    """`local.environments.sandbox.Sandbox` over supervisor.sock.

    `peer` is the current connection; `handlers` belong to it. Request: {"run", "spec"}; while it runs, notifications
    `sandbox.output` {"run"} with the bytes; reply {"code"}; to end it, the notification `sandbox.kill` {"run"}.
    """

    def __init__(self, peer: Callable[[], Awaitable[Peer]]) -> None:
        self._peer = peer
        self._outputs: dict[str, Callable[[bytes], None]] = {}

    @property
    def handlers(self) -> dict[str, Handler]:
        return {"sandbox.output": self._on_output}

    async def run(self, spec: SandboxSpec, *, output: Callable[[bytes], None]) -> int:
        run = secrets.token_hex(8)
        peer = await self._peer()
        self._outputs[run] = output
        try:
            reply = await peer.call("sandbox.run", {"run": run, "spec": dataclasses.asdict(spec)})
        except asyncio.CancelledError:
            peer.notify("sandbox.kill", {"run": run})
            raise
        finally:
            del self._outputs[run]
        return int(reply.fields["code"])

    def _on_output(self, peer: Peer, message: Message) -> None:
        output = self._outputs.get(message.fields.get("run", ""))
        if output is not None:
            output(message.body)
