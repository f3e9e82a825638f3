"""Crews for the tests of the CrewAI adapter, on the fake model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

from tests.fakes.model_server import ModelServer


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def create_agent(
    server: ModelServer, *tools: Callable[..., Any], role: str = "Calculator", stream: bool = False, **settings: Any
) -> Agent:
    return Agent(
        role=role,
        goal="Answer",
        backstory="Precise.",
        llm=LLM(
            model="fake-1",
            provider="openai",
            base_url=server.openai_url,
            api_key="none",
            stream=stream,
            max_retries=0,
        ),
        tools=[tool(one.__name__)(one) for one in tools],
        **settings,
    )


def create_crew(server: ModelServer, *tools: Callable[..., Any], stream: bool = False, **settings: Any) -> Crew:
    """One agent with one task, which the input's member `request` describes."""
    agent = create_agent(server, *(tools or (add,)), stream=stream)
    task = Task(name="answer", description="{request}", expected_output="A text", agent=agent)
    return Crew(name="Office", agents=[agent], tasks=[task], **settings)
