"""Effects that are recorded: asked for again after a crash, they are answered from the journal instead of repeated.

`recording` (model calls) and the adapters' tool hooks begin a call, find it `answered` or do it, and report the end.
A call is known by its name, its arguments and how many equal ones came before it. One that failed is not recorded:
its identity is given back, so that the next equal call, the caller's own retry, takes it.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Mapping
from typing import Any

from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.adapter import Step
from orchestrator_runtime.frameworks.current import Active

MISSING = object()


class RecordedCall:
    """One call. `answer` is what an earlier attempt recorded, as bytes; then there is nothing to do or report."""

    def __init__(self, active: Active, name: str, kind: StepKind, arguments: bytes, *, shown: Any = None) -> None:
        self._active = active
        scope, parent = active.place()
        self._key = (f"{name}@{scope}" if scope else name, arguments)
        with active.lock:
            given_back = active.given_back.get(self._key)
            again = given_back.pop() if given_back else None
        self.identity: Mapping[str, Any]
        self.answer: bytes | None
        self.identity, self.answer = (again, None) if again else active.run.recorded(*self._key)
        self._step: Step | None = None
        if self.answer is None:
            self._step = active.run.start_step(name, kind, input=shown, parent=parent, call=self.identity)

    @property
    def step(self) -> str | None:
        """The identity of its step; None if the call is answered."""
        return self._step.id if self._step is not None else None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this call of this run, and no other."""
        digest = str(self.identity["digest"])[:32]
        return f"{self._active.run.run}-{digest}-{self.identity['n']}"

    async def succeed(self, result: Any, **data: Any) -> None:
        """Record the result. Returns after the commit, so before anything can act on it."""
        assert self._step is not None
        await self._active.on_loop(self._step.succeed(result, **data))

    def succeed_blocking(self, result: Any, **data: Any) -> None:
        """`succeed` for blocking code. In the event loop's own thread it cannot wait, and the commit follows."""
        assert self._step is not None
        if self._active.in_loop:
            self._active.later(self._step.succeed(result, **data))
        else:
            self._step.succeed_blocking(result, **data)

    async def fail(self, error: BaseException, **data: Any) -> None:
        self._give_back()
        if self._step is not None:
            await self._active.on_loop(self._step.fail(error, **data))

    def fail_blocking(self, error: BaseException, **data: Any) -> None:
        if self._active.in_loop:
            self.abandon(error)
            return
        self._give_back()
        if self._step is not None:
            self._step.fail_blocking(error, **data)

    def abandon(self, error: BaseException) -> None:
        """`fail` where waiting is not possible."""
        self._give_back()
        if self._step is not None:
            self._active.later(self._step.fail(error))

    def _give_back(self) -> None:
        with self._active.lock:
            self._active.given_back.setdefault(self._key, []).append(self.identity)


def pack(value: Any) -> dict[str, Any]:
    """A tool's result as JSON from which `unpack` makes an equal one, if that is possible."""
    try:
        if json.loads(json.dumps(value)) == value:
            return {"value": value}
    except (TypeError, ValueError, RecursionError):
        pass  # not JSON
    try:
        return {"shown": str(value)[:10_000], "pickle": base64.b64encode(pickle.dumps(value)).decode()}
    except Exception:  # noqa: BLE001 - whatever a value raises that cannot be pickled: it is shown, and not answered
        return {"shown": str(value)[:10_000]}


def unpack(answer: bytes) -> Any:
    """What `pack` was given; MISSING if it could not be kept. Only of an agent's own results, in its instance."""
    packed = json.loads(answer)
    if "value" in packed:
        return packed["value"]
    if "pickle" in packed:
        return pickle.loads(base64.b64decode(packed["pickle"]))  # noqa: S301 - written by this very agent
    return MISSING
