"""The run that an agent's code works on, as that code sees it: `from orchestrator_runtime import Run`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from pydantic_core import to_json

from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.calls import MISSING, RecordedCall, pack, unpack
from orchestrator_runtime.frameworks.current import Active, current

P = ParamSpec("P")
T = TypeVar("T")


class Run:
    """The current run. A function gets it as a second parameter `run: Run`; other code asks `Run.current()`."""

    def __init__(self, active: Active) -> None:
        self._active = active

    @classmethod
    def current(cls) -> Run:
        """The run that this code belongs to. Raises `RuntimeError` outside of one."""
        active = current()
        if active is None:
            raise RuntimeError("no run is executing here")
        return cls(active)

    @property
    def id(self) -> str:
        return self._active.run.run

    @property
    def attempt(self) -> int:
        """1 for the first; a later one works on a run whose instance was lost, or that failed and is retried."""
        return self._active.run.attempt

    @property
    def session(self) -> str | None:
        """The conversation that the caller named."""
        return self._active.run.session

    @property
    def event(self) -> Mapping[str, Any] | None:
        """The context attributes of the CloudEvent that came in, such as id, source and type; None if it was none."""
        return self._active.call.input.attributes

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the run to stop, or its time is over. Code that loops in a thread should look."""
        return self._active.run.cancelled

    def step(self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` once per run: a later attempt gets the recorded result instead of calling it again.

        A step is known by its name, its arguments (as JSON) and how many equal ones came before it. One that raises is
        not recorded. For a coroutine function, await what this returns. A result that is neither JSON nor can be
        pickled is not kept, and the function is called again. A blocking function that is called in the event loop is
        recorded a moment later.
        """
        if inspect.iscoroutinefunction(function):
            return self._awaited(name, function, args, kwargs)  # type: ignore[return-value] # T is this coroutine
        call = self._begin(name, args, kwargs)
        kept = MISSING if call.answer is None else unpack(call.answer)
        if kept is not MISSING:
            return cast("T", kept)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.abandon(error)
            raise
        if call.answer is None:
            call.succeed_blocking(pack(result))
        return result

    async def _awaited(
        self, name: str, function: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        call = self._begin(name, args, kwargs)
        kept = MISSING if call.answer is None else unpack(call.answer)
        if kept is not MISSING:
            return cast("T", kept)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            call.abandon(error)
            raise
        if call.answer is None:
            await call.succeed(pack(result))
        return result

    def _begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RecordedCall:
        arguments = to_json({"args": args, "kwargs": kwargs}, fallback=_kind, inf_nan_mode="strings")
        return RecordedCall(self._active, name, StepKind.FUNCTION, arguments, shown=arguments)


def _kind(value: object) -> str:
    """What stands for an argument that is no JSON: the same in every process."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
