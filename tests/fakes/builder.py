"""A builder that makes environments out of nothing, and fails for the versions it is told to fail for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from domain.deployment import BuildRequest, Environment
from orchestrator_runtime.contract.errors import Problem


class FakeBuilder:
    def __init__(self) -> None:
        self.requests: list[BuildRequest] = []
        self.failing: dict[str, Problem] = {}  # version digest -> problem
        self.hold = asyncio.Event()  # cleared, it keeps builds waiting
        self.hold.set()

    async def build(self, request: BuildRequest, *, log: Callable[[str], None]) -> Environment:
        self.requests.append(request)
        log("resolving dependencies")
        await self.hold.wait()
        if problem := self.failing.get(request.version):
            log(problem.detail)
            raise problem
        log("environment is ready")
        return Environment(digest="e" * 64, path="/environments/e", python="/environments/e/bin/python")
