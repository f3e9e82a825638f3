"""CrewAI: a Crew, a Flow, a single Agent, or a class that makes one (@CrewBase, Flow).

A run gets an object of its own, in a thread of its own, as CrewAI blocks. After a crash it starts again, and recorded
calls are answered. In a session a Flow begins with the state that the run before left. A Crew and an Agent have no
state: their memory is kept on the instance's scratch disk, and may be gone at the next run.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from orchestrator_runtime.contract.instance import SCRATCH_PATH

# Before CrewAI is imported; an agent's `env` may say otherwise.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_STORAGE_DIR", f"{SCRATCH_PATH}/crewai")

from crewai import Agent as CrewAgent
from crewai import Crew, Flow
from crewai.events.stream_context import add_stream_sink, reset_stream_sinks
from pydantic import BaseModel

from orchestrator_runtime.contract.errors import AgentError, BadInput, Unprocessable
from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.frameworks import crewai_calls, recording
from orchestrator_runtime.frameworks.adapter import Agent, Answer, Call, Input, Part, RunContext
from orchestrator_runtime.frameworks.crewai_calls import Events
from orchestrator_runtime.frameworks.current import running
from orchestrator_runtime.frameworks.threads import Threads
from orchestrator_runtime.frameworks.values import to_answer

PLACEHOLDER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def load(target: object, start: InstanceStart) -> Agent:
    """Raises `AgentError` (`entrypoint_wrong_framework`) for anything that CrewAI cannot kick off."""
    recording.install()
    crewai_calls.install()
    is_crew_class = isinstance(target, type) and getattr(target, "is_crew_class", False)
    is_flow_class = isinstance(target, type) and issubclass(target, Flow)
    if not (is_crew_class or is_flow_class or isinstance(target, Crew | Flow | CrewAgent)):
        raise AgentError(
            f"{start.entrypoint} is a {type(target).__name__}, not a Crew, Flow or Agent of CrewAI",
            code="entrypoint_wrong_framework",
            hint="Name a variable that holds one or a class of a Flow or crew, or change `framework` in agent.yaml.",
        )
    return _Agent(target, Threads(start))


class _Agent:
    resumes = False

    def __init__(self, target: Any, threads: Threads) -> None:
        self._target = target
        self._threads = threads

    async def run(self, call: Call) -> Answer:
        value = _value(call.input)
        work = _make(self._target)
        with running(call) as active:
            events = Events(active)
            active.place = events.place
            try:
                state = await _FlowState.open(work, call.run)
                result = await self._threads.call(_kick_off, work, value, state, events)
                if state is not None:
                    await state.save()
            except BaseException as error:
                events.fail_open(error)
                raise
            finally:
                await active.settle()
        return _to_answer(result)


def _make(target: Any) -> Any:
    """An object for one run: nothing of a run may be seen by another."""
    if isinstance(target, Crew | CrewAgent):
        return target.copy()
    if isinstance(target, Flow):
        return type(target)(**{name: getattr(target, name) for name in target.model_fields_set})
    made = target()
    return made if isinstance(made, Flow) else made.crew()


def _kick_off(work: Any, value: Any, state: _FlowState | None, events: Events) -> Any:
    """In the run's thread: to its end, also if it streams."""
    token = add_stream_sink(events.sink)
    try:
        if isinstance(work, CrewAgent):
            result = work.kickoff(_message(value))
        else:
            inputs = _inputs(value)
            _check(work, inputs)
            result = work.kickoff(inputs if state is None else {**state.begin, **inputs})
        if hasattr(type(result), "result"):  # a stream, whose pieces come as events too
            for _ in result:
                pass
            result = result.result
        return result
    finally:
        reset_stream_sinks(token)


class _FlowState:
    """The state of a Flow in a session: what the run before left is what this one begins with."""

    def __init__(self, flow: Any, run: RunContext, begin: dict[str, Any]) -> None:
        self._flow, self._run, self.begin = flow, run, begin

    @classmethod
    async def open(cls, work: Any, run: RunContext) -> _FlowState | None:
        """None if there is no session. If this very run has saved it already, it gets what it began with."""
        if not isinstance(work, Flow) or run.session is None:
            return None
        reply = await run.journal("session.get", {"session": run.session})
        kept = json.loads(reply.body) if reply.fields["found"] else {"run": None, "after": {}}
        return cls(work, run, kept["before"] if kept["run"] == run.run else kept["after"])

    async def save(self) -> None:
        state = self._flow.state
        after = state.model_dump(mode="json") if isinstance(state, BaseModel) else dict(state)
        kept = {"run": self._run.run, "before": self.begin, "after": after}
        body = json.dumps(kept, default=str).encode()
        await self._run.journal("session.put", {"session": self._run.session}, body)


def _value(given: Input) -> Any:
    """The input as a JSON value; files of a form are read as text."""
    if given.parts:
        return {part.name: _text(part) if part.filename else _field(part) for part in given.parts}
    value = given.value()
    if isinstance(value, bytes):
        return _text(Part("body", value, given.content_type))
    if value is None and given.attributes is not None:
        return dict(given.attributes)  # an event without data says all that it says in these
    return value


def _field(part: Part) -> Any:
    return Input(body=part.body, content_type=part.content_type).value()


def _text(part: Part) -> str:
    try:
        return part.body.decode()
    except UnicodeDecodeError as error:
        raise Unprocessable(
            f"{part.filename or part.name} ({part.content_type}) is not text",
            code="input_not_text",
            hint="Agents of CrewAI take texts; an agent of Agno takes images, audio and files.",
        ) from error


def _inputs(value: Any) -> dict[str, Any]:
    """What a kickoff takes: an object as it is, anything else as its member `input`."""
    if isinstance(value, dict):
        return value
    return {} if value is None else {"input": value}


def _message(value: Any) -> Any:
    """What a single agent takes: a text, a list of messages, or the member `message` or `input` of an object."""
    if isinstance(value, dict):
        value = next((value[name] for name in ("message", "input") if name in value), value)
    if value is None:
        raise BadInput("The request says nothing to the agent", code="input_missing", hint="Send a text.")
    return value if isinstance(value, str | list) else json.dumps(value, ensure_ascii=False)


def _check(work: Any, inputs: dict[str, Any]) -> None:
    """Say which placeholders of a crew have no input; CrewAI says it only when it comes to each."""
    if isinstance(work, Crew) and not work.before_kickoff_callbacks:
        wanted = {name for name in work.fetch_inputs() if PLACEHOLDER.fullmatch(name)}
        if missing := sorted(wanted - inputs.keys()):
            raise Unprocessable(
                f"The crew needs {', '.join(missing)}",
                code="input_invalid",
                hint="Send a JSON object with these members.",
            )


def _to_answer(result: Any) -> Answer:
    """The pydantic or JSON output of a crew or agent if it has one, else its text; what a flow returned."""
    if hasattr(result, "raw"):
        result = getattr(result, "pydantic", None) or getattr(result, "json_dict", None) or result.raw
    return to_answer(result)
