"""Agents for the tests of the Agno adapter, on the fake model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agno.agent import Agent
from agno.models.anthropic import Claude
from agno.models.openai import OpenAIChat, OpenAIResponses

from tests.fakes.model_server import ModelServer

MODELS: dict[str, Callable[[ModelServer], Any]] = {
    "chat": lambda server: OpenAIChat(id="fake-1", api_key="none", base_url=server.openai_url, retries=0),
    "responses": lambda server: OpenAIResponses(id="fake-1", api_key="none", base_url=server.openai_url),
    "anthropic": lambda server: Claude(id="fake-1", api_key="none", client_params={"base_url": server.url}),
}


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def create_agent(server: ModelServer, *, model: str = "chat", name: str = "Calculator", **settings: Any) -> Agent:
    return Agent(name=name, model=MODELS[model](server), **{"tools": [add], **settings})
