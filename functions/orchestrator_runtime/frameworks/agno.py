"""Agno: an Agent, a Team or a Workflow. After a crash it starts again, and recorded calls are answered.

It always streams inside, whether the caller does or not: a second attempt, which nobody may be waiting for, then makes
the very same model calls as the first. A session's state is Agno's own session, kept in the journal, unless the agent
has a database; whether its history reaches the model is the agent's own setting (`add_history_to_context`).
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("AGNO_TELEMETRY", "false")  # before the first agent is made

from agno.agent import Agent as AgnoAgent
from agno.db.base import SessionType
from agno.db.in_memory import InMemoryDb
from agno.session import AgentSession, TeamSession, WorkflowSession
from agno.team import Team
from agno.utils.agent import validate_input
from agno.workflow import Workflow

from orchestrator_runtime.contract.errors import AgentError, Unprocessable
from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks import agno_calls, recording
from orchestrator_runtime.frameworks.adapter import Agent, Answer, Call, RunContext
from orchestrator_runtime.frameworks.agno_calls import AgnoFailedError, Steps, begin_run
from orchestrator_runtime.frameworks.agno_input import Prompt, read_prompt
from orchestrator_runtime.frameworks.current import running
from orchestrator_runtime.frameworks.values import BINARY, to_answer

KINDS: dict[type[Any], tuple[SessionType, type[Any]]] = {
    AgnoAgent: (SessionType.AGENT, AgentSession),
    Team: (SessionType.TEAM, TeamSession),
    Workflow: (SessionType.WORKFLOW, WorkflowSession),
}
REFUSALS = ("input_check_error", "input_validation_error")  # types of errors that are the caller's


def load(target: object, start: InstanceStart) -> Agent:
    """Raises `AgentError` (`entrypoint_wrong_framework`) for anything but an Agent, a Team or a Workflow."""
    kind = next((kind for kind in KINDS if isinstance(target, kind)), None)
    if kind is None:
        raise AgentError(
            f"{start.entrypoint} is a {type(target).__name__}, not an Agent, Team or Workflow of Agno",
            code="entrypoint_wrong_framework",
            hint="Name a variable that holds one, or change `framework` in agent.yaml.",
        )
    recording.install()
    agno_calls.install()
    return _Agent(target, kind)


class _Agent:
    resumes = False

    def __init__(self, target: Any, kind: type[Any]) -> None:
        self._target = target
        self._is_workflow = kind is Workflow
        self._sessions: _Sessions | None = None
        if target.db is None or isinstance(target.db, _Memory):
            target.db = _Memory()
            self._sessions = _Sessions(target.db, *KINDS[kind])

    async def run(self, call: Call) -> Answer:
        prompt = self._prompt(call)
        with running(call) as active:
            steps = Steps(active)
            active.place = steps.place
            with agno_calls.keeping(steps):
                try:
                    answer = await self._run(call, prompt, steps)
                except Exception as error:
                    await steps.end_open(error)
                    raise
                else:
                    await steps.end_open()
                    return answer
                finally:
                    await active.settle()

    def _prompt(self, call: Call) -> Prompt:
        schema = self._target.input_schema
        prompt = read_prompt(call.input, whole=schema is not None)
        if schema is not None:
            try:
                prompt.message = validate_input(prompt.message, schema)
            except ValueError as error:
                raise Unprocessable(str(error), code="input_invalid", hint="See the agent's input_schema.") from error
        return prompt

    async def _run(self, call: Call, prompt: Prompt, steps: Steps) -> Answer:
        if self._sessions is None:
            return _to_answer(await self._follow(call, prompt, steps))
        async with self._sessions.kept(call.run):
            return _to_answer(await self._follow(call, prompt, steps))

    async def _follow(self, call: Call, prompt: Prompt, steps: Steps) -> Any:
        """Run it to its end, and turn its events into steps and pieces of the stream."""
        run = call.run.run
        extra: dict[str, Any] = {"additional_data": prompt.rest or None}
        if not self._is_workflow:
            dependencies = {**(self._target.dependencies or {}), **prompt.rest}
            extra = {"dependencies": dependencies or None, "yield_run_output": True}
        streams = self._target.stream is not False  # an agent that says no may have a model that cannot
        started = self._target.arun(
            prompt.message,
            session_id=call.run.session or run,
            run_id=run,
            stream=streams,
            stream_events=streams,
            **prompt.media(),
            **extra,
        )
        if not streams:
            steps.begin(run, self._target.name or "agent", StepKind.AGENT, shown=prompt.message)
            output = await started
            _raise_if_bad(output, str(output.status.value))
            await _end(steps, run, output)
            return output
        final = None
        async for event in started:
            if not hasattr(event, "event"):  # the output itself; those of a team's members come too
                final = event if event.run_id == run else final
                continue
            is_own = event.run_id == run
            await _note(steps, event, prompt.message if is_own else None)
            if call.stream:
                await call.emit(event.event, _as_json(event))
            if is_own:
                _raise_if_bad(event, event.event)
                final = getattr(event, "run_output", None) or final  # of a workflow
        if final is None:
            raise AgentError("The agent ended without an output", code="agent_failed")
        return final


class _Memory(InMemoryDb):
    """Where an agent without a database has its sessions while they run."""


class _Sessions:
    """Agno's session of a run, from the journal into the agent's memory before it, and back after it."""

    def __init__(self, db: Any, kind: SessionType, shape: type[Any]) -> None:
        self._db, self._kind, self._shape = db, kind, shape

    @asynccontextmanager
    async def kept(self, run: RunContext) -> AsyncIterator[None]:
        """The session is there within, and saved when all went well."""
        earlier = await self._open(run)
        try:
            yield
            if run.session is not None:
                await self._save(run, earlier)
        finally:
            self._db.delete_session(run.session or run.run)

    async def _open(self, run: RunContext) -> Any:
        """Returns the session's data as they are now.

        If this very run has saved the session already (its attempt was lost at its end), it gets what it began with.
        """
        reply = await run.journal("session.get", {"session": run.session}) if run.session is not None else None
        if reply is None or not reply.fields["found"]:
            return None
        kept = json.loads(reply.body)
        session = kept["session"]
        if kept["run"] == run.run:
            session["runs"] = [one for one in session["runs"] or () if one["run_id"] != run.run]
            session["session_data"] = kept["earlier"]
        self._db.upsert_session(self._shape.from_dict(session))
        return session["session_data"]

    async def _save(self, run: RunContext, earlier: Any) -> None:
        session = self._db.get_session(run.session, session_type=self._kind, deserialize=False)
        kept = {"run": run.run, "earlier": earlier, "session": session}
        await run.journal("session.put", {"session": run.session}, json.dumps(kept, default=str).encode())


async def _note(steps: Steps, event: Any, shown: Any) -> None:
    """Begin or end the step that an event is about."""
    name = event.event.removeprefix("Team")
    if name in ("RunStarted", "WorkflowStarted"):
        begin_run(steps, event, shown=shown)
    elif name == "StepStarted":
        parents = (event.parent_step_id, event.run_id)
        steps.begin(event.step_id, event.step_name or "step", StepKind.NODE, parents=parents)
    elif name in ("RunCompleted", "WorkflowCompleted"):
        await _end(steps, event.run_id, event)
    elif name == "StepCompleted":
        await _end(steps, event.step_id, event)
    elif name in ("RunError", "WorkflowError", "StepError"):
        step = steps.take(event.step_id if name == "StepError" else event.run_id)
        if step is not None:
            await step.fail(AgnoFailedError(_words(event)))


async def _end(steps: Steps, key: str, output: Any) -> None:
    """Tokens are those of the model calls below it: here they would count twice."""
    step = steps.take(key)
    if step is not None:
        await step.succeed(output.content)


def _raise_if_bad(about: Any, said: str) -> None:
    """`said`: the name of an event, or the status of an output."""
    said = said.removeprefix("Team").upper()
    if said.endswith("ERROR") and not said.startswith(("TOOL", "STEP")):
        if getattr(about, "error_type", None) in REFUSALS:
            raise Unprocessable(_words(about), code="input_refused")
        raise AgentError(_words(about), code="agent_failed")
    if said.endswith("PAUSED"):
        raise AgentError(
            "The agent waits for a person, for which no run can wait yet",
            code="agent_paused",
            hint="Use tools that need no confirmation, input or execution from outside.",
        )
    if said.endswith("CANCELLED"):
        raise AgentError(_words(about), code="agent_cancelled")


def _to_answer(output: Any) -> Answer:
    """The content; or, if there is none, the first medium that the agent made."""
    if output.content in (None, ""):
        made = [*(getattr(output, "images", None) or ()), *(getattr(output, "audio", None) or ())]
        data = made[0].get_content_bytes() if made else None
        if data is not None:
            return Answer(data, made[0].mime_type or BINARY)
    return to_answer(output.content)


def _words(about: Any) -> str:
    said = getattr(about, "error", None) or getattr(about, "reason", None) or about.content
    return str(said or "the agent failed")


def _as_json(event: Any) -> Any:
    return json.loads(json.dumps(event.to_dict(), default=str))
