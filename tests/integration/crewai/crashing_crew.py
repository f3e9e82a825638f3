"""One attempt of a crew whose second tool kills the process with the first attempt; for `cases_crash`.

python -m tests.integration.crewai.crashing_crew JOURNAL TOOL-LOG MODEL-URL ATTEMPT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from orchestrator_runtime.frameworks import crewai as adapter  # isort: skip - it says what CrewAI may not do
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.fakes.starts import create_start

REQUEST = 'use transfer {"amount": 100} then use report {}'


async def main(journal: Path, log: Path, url: str, attempt: int) -> None:
    def note(name: str) -> None:
        with log.open("a") as file:
            file.write(f"{name}\n")

    def transfer(amount: int) -> str:
        """Transfer an amount."""
        note("transfer")
        return f"{amount} transferred"

    def report() -> str:
        """Report what was done."""
        note("report")
        if attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "reported"

    agent = Agent(
        role="Teller",
        goal="Answer",
        backstory="Precise.",
        llm=LLM(model="fake-1", provider="openai", base_url=url, api_key="none"),
        tools=[tool("transfer")(transfer), tool("report")(report)],
    )
    crew = Crew(agents=[agent], tasks=[Task(description="{request}", expected_output="A text", agent=agent)])
    context = FakeRunContext(Journal.open(journal), run="run-1", attempt=attempt)
    call, _ = create_call({"request": REQUEST}, run=context)
    answer = await adapter.load(crew, create_start("crewai")).run(call)
    print(answer.body.decode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
