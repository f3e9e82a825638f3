"""The agents that are measured, as the folders that somebody would deploy; and their inputs.

Those of one framework differ in their name only. Their packages are those of `locks/`, as the baseline's are.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.installation import AgentFolder

LOCKS = Path(__file__).with_name("locks")

PLAIN = """
def handle(input):
    return {"greeting": f"hello {input['name']}"}
"""

ASYNC = """
async def handle(input):
    return {"greeting": f"hello {input['name']}"}
"""

LANGGRAPH = """
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    name: str
    words: list[str]
    greeting: str


def split(state: State) -> State:
    return {"words": state["name"].split()}


def greet(state: State) -> State:
    return {"greeting": f"hello {' and '.join(state['words'])}"}


builder = StateGraph(State)
builder.add_node("split", split)
builder.add_node("greet", greet)
builder.add_edge(START, "split")
builder.add_edge("split", "greet")
builder.add_edge("greet", END)
graph = builder.compile()
"""

AGNO = """
from agno.agent import Agent
from agno.models.openai import OpenAIChat

agent = Agent(model=OpenAIChat(id="fake-1"), instructions="Greet whoever is named.", telemetry=False)
"""

CREWAI = """
from crewai import Agent, Crew, Process, Task

greeter = Agent(role="Greeter", goal="Greet people", backstory="Was born polite.", llm="openai/gpt-4o-mini")
greeting = Task(description="Greet {name}", expected_output="A greeting", agent=greeter)
crew = Crew(agents=[greeter], tasks=[greeting], process=Process.sequential)
"""

WAITING_ASYNC = """
import asyncio


async def handle(input):
    await asyncio.sleep(1)
    return input
"""

WAITING_DEF = """
import time


def handle(input):
    time.sleep(1)
    return input
"""

CODE = {"plain": PLAIN, "langgraph": LANGGRAPH, "agno": AGNO, "crewai": CREWAI}
ATTRIBUTE = {"plain": "handle", "langgraph": "graph", "agno": "agent", "crewai": "crew"}
INPUT: dict[str, dict[str, str]] = {
    "plain": {"name": "Ada"},
    "langgraph": {"name": "Ada Bob"},
    "agno": {"message": "My name is Ada"},
    "crewai": {"name": "Ada"},
}
CALLS_MODEL = ("agno", "crewai")
WINDOW = "scale: {window: 6s}\n"  # the shortest; the one setting that a benchmark may change


def model_variables(model_url: str) -> dict[str, str]:
    """Where the model of agents is, and no calls of a framework to its maker, for the platform and the baseline."""
    return {
        "OPENAI_BASE_URL": f"{model_url}/v1",
        "OPENAI_API_KEY": "none",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "OTEL_SDK_DISABLED": "true",
    }


def agent(name: str, kind: str, *, model_url: str = "") -> AgentFolder:
    """An agent of the framework `kind`, its packages locked."""
    # The model is on the machine's loopback, which only the way out reaches: it must not be passed by.
    variables = model_variables(model_url) if kind in CALLS_MODEL else {}
    files = {"agent.yaml": manifest(name, kind, variables), "agent.py": CODE[kind].lstrip()}
    if kind != "plain":
        files["requirements.lock"] = (LOCKS / f"{kind}.lock").read_text()
    return AgentFolder(name, files)


def plain_agent(name: str, code: str) -> AgentFolder:
    """A function `handle` and nothing else."""
    return AgentFolder(name, {"agent.yaml": manifest(name, "plain"), "agent.py": code.lstrip()})


def agent_depending_on(name: str, kind: str, *packages: str) -> AgentFolder:
    """An agent whose packages are named but not locked, as somebody begins: the framework's pin and `packages`."""
    dependencies = "".join(f'    "{package}",\n' for package in (pin(kind), *packages))
    project = f'[project]\nname = "{name}"\nversion = "0.1.0"\ndependencies = [\n{dependencies}]\n'
    files = {"agent.yaml": manifest(name, kind), "agent.py": CODE[kind].lstrip(), "pyproject.toml": project}
    return AgentFolder(name, files)


def manifest(name: str, kind: str, variables: dict[str, str] | None = None) -> str:
    lines = "".join(f'  {name}: "{value}"\n' for name, value in (variables or {}).items())
    env = f"env:\n{lines}" if lines else ""
    return f"name: {name}\nframework: {kind}\nentrypoint: agent:{ATTRIBUTE[kind]}\n{WINDOW}{env}"


def pin(package: str) -> str:
    """`package==version` as the lock of the framework of the same name has it."""
    lines = (LOCKS / f"{package}.lock").read_text().splitlines()
    return next(line.removesuffix("\\").strip() for line in lines if line.startswith(f"{package}=="))
