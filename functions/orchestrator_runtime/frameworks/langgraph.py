"""Runs LangGraph's graphs: built with StateGraph (compiled or not) or with the functional API's entrypoint.

A run is a thread of its own, or one turn of its session's thread. State goes to the journal after every superstep and
before the next one begins, so an attempt after a crash goes on where the last one was: nodes that finished do not run
again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import EmptyInputError, InvalidUpdateError
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from orchestrator_runtime.contract.errors import AgentError, BadInput, Unprocessable
from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.frameworks import recording, values
from orchestrator_runtime.frameworks.adapter import Agent, Answer, Call
from orchestrator_runtime.frameworks.current import Active, running
from orchestrator_runtime.frameworks.langgraph_checkpoints import JournalSaver
from orchestrator_runtime.frameworks.langgraph_steps import Steps, record_tools
from orchestrator_runtime.frameworks.langgraph_threads import NodeThreads

INTERRUPT = "__interrupt__"  # the update that says that a graph stopped to be asked
MESSAGES = "messages"
ROOT = "__root__"  # the one channel of a state that is no mapping
MODES = ("values", "updates")
STREAMED_MODES = (*MODES, MESSAGES, "custom")
MISFITS = (ValueError, TypeError, NotImplementedError, InvalidUpdateError)


def load(target: object, start: InstanceStart) -> Agent:
    """Raises `AgentError` (`entrypoint_wrong_framework`, `graph_invalid`)."""
    recording.install()
    record_tools()
    if isinstance(target, StateGraph):
        try:
            target = target.compile()
        except ValueError as error:
            raise AgentError(
                f"The graph {start.entrypoint} cannot be compiled: {error}",
                code="graph_invalid",
                hint="Give every edge a node to end at, and the graph an edge from START.",
            ) from error
    if not isinstance(target, Pregel):
        raise AgentError(
            f"{start.entrypoint} is a {type(target).__name__}, and no graph of LangGraph",
            code="entrypoint_wrong_framework",
            hint="Name a StateGraph, a compiled graph or a function decorated with @entrypoint; "
            "for anything else set `framework: plain`.",
        )
    return LangGraphAgent(target, start)


class LangGraphAgent:
    """A graph, ready to run any number of calls at once."""

    resumes = True

    def __init__(self, graph: Any, start: InstanceStart) -> None:
        self._graph = graph
        self._name = start.agent
        self._threads = NodeThreads(start)
        self._schema, self._fields = _input_schema(graph)

    async def run(self, call: Call) -> Answer:
        self._threads.take_over()
        with running(call) as active:
            steps = Steps(active)
            try:
                return await self._run(call, active, steps)
            except BaseException as error:
                await self._threads.stop(active)
                steps.close(error)
                raise
            finally:
                await active.settle()

    async def _run(self, call: Call, active: Active, steps: Steps) -> Answer:
        graph = self._graph.copy({"checkpointer": _checkpointer(self._graph, active)})
        config = self._config(call, steps)
        given = None if await _is_begun(graph, config, call) else self._input(call)
        result: Any = None
        interrupts: list[Any] | None = None
        stream = graph.astream(
            given,
            config,
            stream_mode=list(STREAMED_MODES if call.stream else MODES),
            subgraphs=True,
            durability="sync",
        )
        try:
            async with contextlib.aclosing(stream):
                async for namespace, mode, piece in stream:
                    if not namespace and mode == "values":
                        result = piece
                    elif not namespace and mode == "updates" and INTERRUPT in piece:
                        interrupts = [*(interrupts or ()), *piece[INTERRUPT]]
                    if call.stream:
                        await call.emit("|".join((mode, *namespace)), _json(piece))
        except EmptyInputError as error:
            raise BadInput(
                "The agent needs an input", code="input_missing", hint="Send one in the request's body."
            ) from error
        except MISFITS as error:
            if steps.any_node or given is None:
                raise
            raise self._misfit(f"The agent cannot take the input: {error}") from error  # its reducers got it first
        if interrupts is not None:
            raise _interrupted(interrupts)
        outputs = graph.output_channels
        if isinstance(outputs, list) and isinstance(result, Mapping):  # the stream has the whole state
            result = {name: result[name] for name in outputs if name in result}
        return values.to_answer(result)

    def _config(self, call: Call, steps: Steps) -> RunnableConfig:
        """The graph's own configuration and ours. A checkpoint's `run_id` says which run made it."""
        run = call.run
        place: dict[str, Any] = {"thread_id": run.session or run.run}
        if call.input.attributes is not None:
            place["event"] = dict(call.input.attributes)
        ours: RunnableConfig = {
            "configurable": place,
            "metadata": {"run_id": run.run},
            "callbacks": [steps],
            "run_name": self._name,
        }
        return merge_configs(self._graph.config, ours)

    def _input(self, call: Call) -> Any:
        """The body as the graph takes it: a mapping for a StateGraph, anything for a function.

        A body that is no mapping becomes the member that it can only be: the one that there is, or the messages.
        """
        value = call.input.value()
        if self._fields is None:
            return value
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            name = self._fields[0] if len(self._fields) == 1 else MESSAGES
            if name not in self._fields:
                raise self._misfit("The input is no JSON object")
            value = {name: value}
        mistakes = self._mistakes(value, is_first=call.run.session is None)
        if mistakes:
            where = ".".join(map(str, mistakes[0]["loc"]))
            raise self._misfit(f"The input does not fit: {where}: {mistakes[0]['msg']}", mistakes=mistakes)
        if self._fields and not any(name in value for name in self._fields):
            raise self._misfit("The input has none of the members that the agent takes")
        return value

    def _mistakes(self, value: Mapping[str, Any], *, is_first: bool) -> list[Any]:
        """What a state that is a pydantic model says of the input.

        Not of a member with a reducer, which may take more than the member holds (`add_messages` takes a text), and
        in a session not of a missing one, which an earlier run may have set.
        """
        if self._schema is None:
            return []
        try:
            self._schema.model_validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            return [
                mistake for mistake in found if self._is_sure(mistake) and (is_first or mistake["type"] != "missing")
            ]
        return []

    def _is_sure(self, mistake: Any) -> bool:
        member = mistake["loc"][0] if mistake["loc"] else None
        return not isinstance(self._graph.channels.get(member), BinaryOperatorAggregate)

    def _misfit(self, detail: str, **more: Any) -> Unprocessable:
        hint = f"Send a JSON object with: {', '.join(self._fields or ())}."
        return Unprocessable(detail, code="input_invalid", hint=hint, **more)


def _input_schema(graph: Pregel) -> tuple[type[BaseModel] | None, tuple[str, ...] | None]:
    """The model and the members of a StateGraph's input; (None, None) for a graph that takes anything."""
    if not isinstance(graph, CompiledStateGraph):
        return None, None
    schema = graph.builder.input_schema
    fields = tuple(graph.builder.schemas[schema])
    if fields == (ROOT,):
        return None, None
    return (schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None), fields


def _checkpointer(graph: Any, active: Active) -> Any:
    """The journal, unless the graph was compiled with a saver that keeps its state somewhere durable.

    People compile with an InMemorySaver because tutorials do, and mean "remember"; in an instance that scales to zero
    it would forget, so the journal takes its place, with its serializer. Who names a database of their own means it:
    other programs read it, or it holds threads from before. Then it is kept, and a crash resumes from there.
    """
    own = graph.checkpointer
    if isinstance(own, InMemorySaver):
        return JournalSaver(active, serde=None if own.serde is BaseCheckpointSaver.serde else own.serde)
    return own if isinstance(own, BaseCheckpointSaver) else JournalSaver(active)


async def _is_begun(graph: Any, config: RunnableConfig, call: Call) -> bool:
    """Whether the thread stands where an earlier attempt of this run left it."""
    if call.run.attempt == 1:
        return False
    latest = await graph.checkpointer.aget_tuple(config)
    return latest is not None and latest.metadata.get("run_id") == call.run.run


def _interrupted(interrupts: list[Any]) -> Unprocessable:
    asked = [_json(getattr(interrupt, "value", interrupt)) for interrupt in interrupts]
    return Unprocessable(
        f"The agent stopped to be answered: {asked[0]}" if asked else "The agent stopped where it was compiled to",
        code="interrupted",
        hint="Runs cannot be answered yet; a later part of Orchestrator brings that. Until then, let the agent decide.",
        interrupts=asked,
    )


def _json(value: Any) -> Any:
    return to_jsonable_python(value, fallback=str, bytes_mode="base64", inf_nan_mode="strings")
