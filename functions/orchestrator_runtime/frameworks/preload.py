"""What a zygote imports before it forks: per framework, its modules and those that its first run imports lazily.

Only imports: no client, pool or event loop may exist before the fork. A module that an environment does not have is
skipped, so that one list serves many versions of a framework.
"""

from __future__ import annotations

SERVER = (
    "asyncio",
    "concurrent.futures.thread",
    "email.message",
    "encodings.idna",
    "httptools",
    "importlib.metadata",
    "multiprocessing",
    "orchestrator_runtime.server",
    "pydantic",
    "ssl",
    "urllib.request",
    "uvloop",
)

OPENAI = (
    "openai",
    "openai.lib.streaming.chat",
    "openai.resources",
    "openai.lib._chat_completion_resources",
    "openai.resources.chat.chat",
    "openai.resources.responses",
    "anyio._backends._asyncio",
    "httpcore",
    "httpcore2",
)
"""Its SDK, and what that imports with its first request: of the two HTTP clients, the one that this version has."""

TRUST = "orchestrator_runtime.frameworks.trust"  # the last: it works on the HTTP clients that the others imported

FRAMEWORKS: dict[str, tuple[str, ...]] = {
    "plain": ("orchestrator_runtime.frameworks.plain",),
    "langgraph": (
        "orchestrator_runtime.frameworks.langgraph",
        "langgraph.graph",
        "langgraph.graph.message",
        "langgraph.func",
        "langgraph.types",
        "langgraph.prebuilt",
        "langgraph.pregel",
        "langgraph.pregel.remote",
        "langgraph.checkpoint.memory",
        "langgraph.checkpoint.serde.jsonplus",
        "langchain_core.callbacks.manager",
        "langchain_core.language_models.chat_models",
        "langchain_core.messages",
        "langchain_core.prompts",
        "langchain_core.runnables",
        "langchain_core.tools",
        "langchain_core.tracers.core",
        "langchain_core.tracers.event_stream",
        "langchain_core.tracers.langchain",
        "langchain_core.tracers.log_stream",
        "langchain_openai",
        "langchain_anthropic",
    ),
    "crewai": (
        "orchestrator_runtime.frameworks.crewai",
        "crewai",
        "crewai.crew",
        "crewai.flow.flow",
        "crewai.hooks.contexts",
        "crewai.llm",
        "crewai.llms.cache",
        "crewai.llms.providers.openai.completion",
        "crewai.skills.tool",
        "crewai.tools",
        "litellm",
        *OPENAI,
    ),
    "agno": (
        "orchestrator_runtime.frameworks.agno",
        "agno.agent",
        "agno.agent._hooks",
        "agno.agent._response",
        "agno.agent._telemetry",
        "agno.offload",
        "agno.team",
        "agno.tools",
        "agno.workflow",
        "agno.models.openai",
        "agno.models.anthropic",
        "agno.utils.callables",
        "agno.utils.json_schema",
        "anthropic",
        *OPENAI,
    ),
}


def modules(frameworks: list[str]) -> tuple[str, ...]:
    """The modules to import for these frameworks, each once, the server's first. Unknown frameworks have none."""
    named = (name for framework in frameworks for name in FRAMEWORKS.get(framework, ()))
    return tuple(dict.fromkeys((*SERVER, *named, TRUST)))
