"""What a graph does, as steps of the run: nodes and models through LangChain's callbacks, tools where they are called.

Tool calls are recorded effects: in a node that a crash has interrupted, those that were done are answered from the
journal. A model call over HTTP is recorded by `recording` already, with its step; the callbacks only report the models
that answer in another way.

Where a call belongs is its checkpoint namespace (`node:task|inner node:task`), which LangGraph derives from the
checkpoint, so that a task has the same one in every attempt.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp, GraphInterrupt

from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.adapter import Step
from orchestrator_runtime.frameworks.calls import MISSING, RecordedCall, pack, unpack
from orchestrator_runtime.frameworks.current import Active, current
from orchestrator_runtime.frameworks.excerpt import excerpt

NAMESPACE = "langgraph_checkpoint_ns"  # in the metadata of whatever runs in a node
NODE = "langgraph_node"
HIDDEN = "langsmith:hidden"  # tag of the nodes that LangGraph adds itself
SCALARS = (str, int, float, type(None))

_tool: ContextVar[tuple[str, str] | None] = ContextVar("orchestrator_langgraph_tool", default=None)
"""Namespace and step of the tool that is executing."""


@dataclass(frozen=True, slots=True)
class _ModelCall:
    parent: str | None
    prompt: Any
    started: float
    recorded_before: int


class Steps(BaseCallbackHandler):  # type: ignore[misc]
    """The callbacks of one attempt. They run where the graph does, in its loop and its threads, and never block it."""

    run_inline = True

    def __init__(self, active: Active) -> None:
        self._active = active
        self._nodes: dict[str, Step] = {}  # by namespace, also ended ones: what they started may outlive them
        self._open: dict[UUID, str] = {}  # namespaces of nodes that are executing, by LangChain's id
        self._models: dict[UUID, _ModelCall] = {}
        active.place = self._place

    @property
    def any_node(self) -> bool:
        """Whether a node has started."""
        return bool(self._nodes)

    def close(self, error: BaseException) -> None:
        """End the steps of nodes that were stopped in a way that LangChain does not report."""
        for namespace in self._open.values():
            self._active.later(self._nodes[namespace].fail(error))
        self._open.clear()

    # nodes

    def on_chain_start(
        self,
        _serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **other: Any,
    ) -> None:
        """The first thing that runs in a namespace is its node; what follows is inside of it."""
        namespace = (metadata or {}).get(NAMESPACE)
        if not namespace or HIDDEN in (tags or ()) or namespace in self._open.values():
            return
        parent = self._parent(namespace.rpartition("|")[0])
        name = str((metadata or {})[NODE])
        self._nodes[namespace] = self._active.run.start_step(name, StepKind.NODE, input=excerpt(inputs), parent=parent)
        self._open[run_id] = namespace

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **other: Any) -> None:
        namespace = self._open.pop(run_id, None)
        if namespace is not None:
            self._active.later(self._nodes[namespace].succeed(excerpt(outputs)))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **other: Any) -> None:
        namespace = self._open.pop(run_id, None)
        if namespace is None:
            return
        step = self._nodes[namespace]
        if isinstance(error, GraphInterrupt):
            self._active.later(step.succeed(excerpt(error.args), interrupted=True))
        elif isinstance(error, GraphBubbleUp):  # a command for the graph around this one
            self._active.later(step.succeed(excerpt(error.args)))
        else:
            self._active.later(step.fail(error))

    # models

    def on_chat_model_start(self, _serialized: Any, messages: Any, *, run_id: UUID, **other: Any) -> None:
        self._begin_model(run_id, messages)

    def on_llm_start(self, _serialized: Any, prompts: Any, *, run_id: UUID, **other: Any) -> None:
        self._begin_model(run_id, prompts)

    def on_llm_end(self, response: Any, *, run_id: UUID, **other: Any) -> None:
        found = self._unrecorded(run_id)
        if found is None:
            return
        generation = response.generations[0][0]
        message = getattr(generation, "message", None)
        facts = getattr(message, "response_metadata", None) or response.llm_output or {}
        model = facts.get("model_name") or facts.get("model") or "model"
        usage = getattr(message, "usage_metadata", None) or {}
        tokens = {name: usage[name] for name in ("input_tokens", "output_tokens") if name in usage}
        step = self._start_model(model, found)
        result = excerpt(generation.text if message is None else message)
        self._active.later(step.succeed(result, model=model, duration=time.perf_counter() - found.started, **tokens))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **other: Any) -> None:
        found = self._unrecorded(run_id)
        if found is not None:
            step = self._start_model("model", found)
            self._active.later(step.fail(error, duration=time.perf_counter() - found.started))

    def _begin_model(self, run_id: UUID, prompt: Any) -> None:
        seen = self._active.model_calls
        self._models[run_id] = _ModelCall(self._place()[1], excerpt(prompt), time.perf_counter(), seen)

    def _unrecorded(self, run_id: UUID) -> _ModelCall | None:
        """The call, if nothing passed the HTTP transports while it lasted.

        A call that ran beside one over HTTP is taken for it: a step too few is better than one twice.
        """
        found = self._models.pop(run_id, None)
        return found if found is not None and found.recorded_before == self._active.model_calls else None

    def _start_model(self, name: str, found: _ModelCall) -> Step:
        return self._active.run.start_step(name, StepKind.MODEL, input=found.prompt, parent=found.parent)

    # places

    def _place(self) -> tuple[str, str | None]:
        """The namespace of the code that is executing, and the step around it."""
        config: Any = var_child_runnable_config.get() or {}
        namespace = (config.get("metadata") or {}).get(NAMESPACE, "")
        return namespace, self._parent(namespace)

    def _parent(self, namespace: str) -> str | None:
        tool = _tool.get()
        if tool is not None and tool[0] == namespace:
            return tool[1]
        while namespace:
            if namespace in self._nodes:
                return self._nodes[namespace].id
            namespace = namespace.rpartition("|")[0]
        return None


def record_tools() -> None:
    """Record the calls of LangChain's tools, from now on. A second call does nothing."""
    if hasattr(BaseTool.run, "recorded_by_orchestrator"):
        return
    run, arun = BaseTool.run, BaseTool.arun

    @functools.wraps(run)
    def recorded_run(tool: Any, tool_input: Any, *rest: Any, **options: Any) -> Any:
        active = current()
        if active is None:
            return run(tool, tool_input, *rest, **options)
        call, answer = _begin_tool(active, tool, tool_input, options)
        if answer is not MISSING:
            return answer
        try:
            with _inside(active, call):
                result = run(tool, tool_input, *rest, **options)
        except BaseException as error:
            call.fail_blocking(error)
            raise
        call.succeed_blocking(pack(result))
        return result

    @functools.wraps(arun)
    async def recorded_arun(tool: Any, tool_input: Any, *rest: Any, **options: Any) -> Any:
        active = current()
        if active is None:
            return await arun(tool, tool_input, *rest, **options)
        call, answer = _begin_tool(active, tool, tool_input, options)
        if answer is not MISSING:
            return answer
        try:
            with _inside(active, call):
                result = await arun(tool, tool_input, *rest, **options)
        except BaseException as error:
            call.abandon(error)
            raise
        await call.succeed(pack(result))
        return result

    recorded_run.recorded_by_orchestrator = True  # type: ignore[attr-defined]
    BaseTool.run, BaseTool.arun = recorded_run, recorded_arun


def _begin_tool(active: Active, tool: Any, given: Any, options: Mapping[str, Any]) -> tuple[RecordedCall, Any]:
    """The call, and what an earlier attempt got for it or MISSING."""
    arguments = _arguments(tool, given)
    text = json.dumps([arguments, options.get("tool_call_id")], default=lambda value: type(value).__name__)
    call = RecordedCall(active, tool.name, StepKind.TOOL, text.encode(), shown=excerpt(arguments))
    if call.answer is None:
        return call, MISSING
    answer = unpack(call.answer)
    if answer is MISSING:  # a result that could not be kept: the tool runs again, which is a call of its own
        call = RecordedCall(active, tool.name, StepKind.TOOL, text.encode() + b" again", shown=excerpt(arguments))
    return call, answer


def _arguments(tool: Any, given: Any) -> Any:
    """What the model asked for, without what LangGraph injects (state, store, runtime)."""
    if not isinstance(given, dict):
        return given
    schema = tool.tool_call_schema
    asked = schema.get("properties", {}) if isinstance(schema, dict) else getattr(schema, "model_fields", given)
    return {str(name): value for name, value in given.items() if name in asked or isinstance(value, SCALARS)}


@contextmanager
def _inside(active: Active, call: RecordedCall) -> Iterator[None]:
    """Steps that begin in here are the tool's."""
    token = _tool.set((active.place()[0], call.step)) if call.step else None
    try:
        yield
    finally:
        if token is not None:
            _tool.reset(token)
