"""One attempt of an agent whose second tool kills the process with the first attempt; for `cases_crash`.

python -m tests.integration.agno.crashing_agent JOURNAL TOOL-LOG MODEL-URL ATTEMPT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from agno.agent import Agent
from agno.models.openai import OpenAIChat

from orchestrator_runtime.frameworks import agno as adapter
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.fakes.starts import create_start

MESSAGE = 'use transfer {"amount": 100} then use report {}'


async def main(journal: Path, log: Path, url: str, attempt: int) -> None:
    def note(name: str) -> None:
        with log.open("a") as file:
            file.write(f"{name}\n")

    def transfer(amount: int) -> str:
        """Transfer an amount."""
        note("transfer")
        return f"{amount} transferred"

    async def report() -> str:
        """Report what was done."""
        note("report")
        if attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "reported"

    agent = Agent(
        name="Teller",
        model=OpenAIChat(id="fake-1", api_key="none", base_url=url),
        tools=[transfer, report],
    )
    context = FakeRunContext(Journal.open(journal), run="run-1", attempt=attempt)
    call, _ = create_call(MESSAGE, run=context)
    answer = await adapter.load(agent, create_start("agno")).run(call)
    print(answer.body.decode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
