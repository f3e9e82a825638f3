"""The way to instances (`run.dispatch`), as the dispatcher sees it: it remembers what is sent, and tests decide."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from orchestrator_runtime.contract.errors import Problem
from orchestrator_runtime.contract.wire import Message


@dataclass(slots=True)
class Sending:
    """One run on its way; nothing is answered before the test says what."""

    fields: dict[str, Any]
    body: bytes
    answered: asyncio.Future[Message] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def run(self) -> str:
        return str(self.fields["run"])

    def answer(self, status: int) -> None:
        self.answered.set_result(Message({"status": status}))

    def refuse(self, problem: Problem) -> None:
        self.answered.set_exception(problem)


@dataclass(slots=True)
class FakeInstances:
    sent: asyncio.Queue[Sending] = field(default_factory=asyncio.Queue)

    async def send(self, fields: dict[str, Any], body: bytes) -> Message:
        sending = Sending(fields, body)
        self.sent.put_nowait(sending)
        return await sending.answered
