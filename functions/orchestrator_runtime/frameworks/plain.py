"""Plain Python functions: `def f(input)` gets the decoded body, or what its annotation makes of it.

A second parameter annotated `Run` gets the run. Functions, generators and their asynchronous kinds; what a generator
yields is streamed, and all of it together is the answer. Blocking ones work in threads. Functions that
functions-framework has decorated are left to `functions`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from orchestrator_runtime.contract.errors import AgentError, Unprocessable
from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.frameworks import functions
from orchestrator_runtime.frameworks.adapter import Agent, Answer, Call, Input, Part
from orchestrator_runtime.frameworks.current import running
from orchestrator_runtime.frameworks.threads import Threads
from orchestrator_runtime.frameworks.values import to_answer
from orchestrator_runtime.run import Run

PIECE = "message"  # name of the event of something that a generator yields
FRAMEWORKS = ("langgraph", "crewai", "agno")  # whose objects a person may have forgotten to announce
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def load(target: object, start: InstanceStart) -> Agent:
    """Raises `AgentError` (`entrypoint_wrong_framework`) for what is no function of one or two parameters."""
    threads = Threads(start)
    if not callable(target):
        raise _wrong(target, start)
    return functions.load(target, threads) or PlainAgent(target, start, threads)


class PlainAgent:
    """A function."""

    resumes = False

    def __init__(self, function: Callable[..., Any], start: InstanceStart, threads: Threads) -> None:
        self._function = function
        self._threads = threads
        self._in_loop = _is_asynchronous(function)
        self._arguments = _arguments(function, start)

    async def run(self, call: Call) -> Answer:
        with running(call) as active:
            arguments = [make(call.input, Run(active)) for make in self._arguments]
            if self._in_loop:
                result = self._function(*arguments)
            else:
                result = await self._threads.call(self._function, *arguments)
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, AsyncIterator):
                result = _joined([await _sent(call, piece) async for piece in result])
            elif inspect.isgenerator(result):
                result = _joined(await self._threads.call(_exhaust, result, call, asyncio.get_running_loop()))
            return to_answer(result)


# the call


async def _sent(call: Call, piece: Any) -> Any:
    if call.stream:
        await call.emit(PIECE, piece)
    return piece


def _exhaust(generator: Iterator[Any], call: Call, loop: asyncio.AbstractEventLoop) -> list[Any]:
    """All pieces of a blocking generator; each is sent before the next one is asked for, or none if it is cancelled."""
    pieces = []
    for piece in generator:
        if call.run.cancelled:
            break
        pieces.append(piece)
        if call.stream:
            asyncio.run_coroutine_threadsafe(_sent(call, piece), loop).result()
    return pieces


def _joined(pieces: list[Any]) -> Any:
    """Text or bytes as one, all else as a list."""
    if pieces and all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    if pieces and all(isinstance(piece, bytes) for piece in pieces):
        return b"".join(pieces)
    return pieces


# the signature

# Made when a zygote imports this: the first adapter of a process imports half of pydantic and looks through all
# installed distributions for plugins.
TypeAdapter(Part)

Argument = Callable[[Input, Run], Any]


def _arguments(function: Callable[..., Any], start: InstanceStart) -> list[Argument]:
    """What makes the arguments of a call. Raises `AgentError` (`entrypoint_wrong_framework`)."""
    try:
        parameters = [each for each in inspect.signature(function).parameters.values() if each.kind in POSITIONAL]
    except (TypeError, ValueError) as error:  # a callable of C without a signature
        raise _wrong(function, start) from error
    hints = _hints(function)
    described = [(each, hints.get(each.name)) for each in parameters]
    needed = [each for each, hint in described[1:] if not _is_run(each, hint) and each.default is each.empty]
    if needed:
        raise AgentError(
            f"{start.entrypoint} wants {len(parameters)} parameters; there is an input, and a run",
            code="entrypoint_wrong_framework",
            hint="Write `def handle(input)`, or `def handle(input, run: Run)` with Run from orchestrator_runtime.",
        )
    first = [_run if _is_run(*each) else _input(*each) for each in described[:1]]
    second = [_run for each in described[1:2] if _is_run(*each)]
    return [*first, *second]


def _run(_: Input, run: Run) -> Run:
    return run


def _is_run(parameter: inspect.Parameter, hint: Any) -> bool:
    return hint is Run or (hint is None and parameter.name == "run")


def _input(parameter: inspect.Parameter, hint: Any) -> Argument:
    """Turns the body into what the first parameter wants."""
    if hint is Input:
        return lambda given, _: given
    default = parameter.default
    adapter = _adapter(hint)

    def make(given: Input, _: Run) -> Any:
        value = given.value()
        if value is None and default is not parameter.empty:
            return default
        if adapter is None:
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise _unprocessable(error) from error

    return make


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """What checks values of this type; None where everything will do, and for types that pydantic cannot check."""
    if hint is None or hint is Any or hint is object:
        return None
    try:
        return TypeAdapter(hint)
    except PydanticUserError:
        return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as types; those that cannot be resolved are left out."""
    annotated = function if inspect.isroutine(function) else getattr(function, "func", type(function).__call__)
    try:
        return get_type_hints(annotated, include_extras=True)
    except (NameError, TypeError):  # a name that exists for type checkers only, or nothing that has annotations
        found = getattr(annotated, "__annotations__", {})
        return {name: hint for name, hint in found.items() if not isinstance(hint, str)}


def _is_asynchronous(function: Callable[..., Any]) -> bool:
    tests = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    called = getattr(function, "__call__", None)  # noqa: B004 - of an object with such a method
    return any(test(function) or test(called) for test in tests)


# errors


def _unprocessable(error: ValidationError) -> Unprocessable:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    mistakes = [{"field": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in found]
    first = mistakes[0]
    return Unprocessable(
        f"{first['field']}: {first['message']}" if first["field"] else first["message"],
        code="input_invalid",
        hint="Send what the agent's annotation says.",
        errors=mistakes,
    )


def _wrong(target: object, start: InstanceStart) -> AgentError:
    module = type(target).__module__.partition(".")[0]
    hint = "Name a function in `entrypoint`, like agent:handle."
    if module in FRAMEWORKS:
        hint = f"Set `framework: {module}` in agent.yaml."
    return AgentError(
        f"{start.entrypoint} is a {type(target).__name__}, no function", code="entrypoint_wrong_framework", hint=hint
    )
