"""Runs a build's programs in sandboxes that are children of this process: what the supervisor does for the server."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from local.sandbox import process
from local.sandbox.confinement import Confinement
from local.sandbox.spec import SandboxSpec

READ_BYTES = 64 * 1024

UidOf = Callable[[str], int | None]
OfferEgress = Callable[[SandboxSpec, socket.socket], AbstractAsyncContextManager[object]]
"""Serve what arrives at a sandbox's way out, for as long as the context lasts."""


class DirectSandbox:
    """`local.environments.sandbox.Sandbox` without a supervisor in between."""

    def __init__(self, *, confinement: Confinement, uid_of: UidOf, offer_egress: OfferEgress) -> None:
        self._confinement = confinement
        self._uid_of = uid_of
        self._offer_egress = offer_egress

    async def run(self, spec: SandboxSpec, *, output: Callable[[bytes], None]) -> int:
        spec = dataclasses.replace(spec, uid=self._uid_of(spec.organization))
        running = await process.start(spec, confinement=self._confinement)
        try:
            if running.egress is None:
                return await _finish(running, output)
            async with self._offer_egress(spec, running.egress):
                return await _finish(running, output)
        finally:
            running.kill()
            await running.wait()


async def _finish(running: process.SandboxProcess, output: Callable[[bytes], None]) -> int:
    async with asyncio.TaskGroup() as tasks:
        for stream in (running.stdout, running.stderr):
            if stream is not None:
                tasks.create_task(_pump(stream, output))
    return (await running.wait()).code


async def _pump(stream: asyncio.StreamReader, output: Callable[[bytes], None]) -> None:
    while data := await stream.read(READ_BYTES):
        output(data)
