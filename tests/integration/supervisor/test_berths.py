"""The hold on a zygote's next instance: who takes it, and what becomes of it when nobody does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from local.sandbox.zygote import Zygote
from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.instance import Limits

LIMITS = Limits(memory_bytes=2**20, cpu=1.0, processes=8)
START: Any = SimpleNamespace(instance="a-00001-1", limits=LIMITS, network="none")


@dataclass
class Hold:
    """`refuse`: with what it does not take its limits."""

    refuse: OSError | None = None
    cpus: tuple[int, ...] = ()
    released: bool = False

    def limit(self, limits: Limits) -> None:
        if self.refuse is not None:
            raise self.refuse

    def release(self) -> None:
        self.released = True


@dataclass
class Berths:
    """Stands in for the confinement: gives out `holds`, one after the other, and knows what each came after."""

    holds: list[Hold | OSError]
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    before: list[Hold | None] = field(default_factory=list)

    async def hold_next(self, name: str, limits: Limits, *, parent: int, before: Hold | None) -> Hold:
        self.before.append(before)
        await self.go_on.wait()
        given = self.holds.pop(0)
        if isinstance(given, OSError):
            raise given
        return given


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def create_zygote(end: socket.socket, berths: Berths) -> Zygote:
    process: Any = SimpleNamespace(pid=1)
    confinement: Any = berths
    zygote = Zygote(process, end, confinement=confinement)
    zygote._berth = asyncio.ensure_future(zygote._move_on(None))
    return zygote


async def test_a_start_that_is_cancelled_while_it_waits_leaves_the_berth_to_the_next_one(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    berths = Berths([Hold()])
    zygote = create_zygote(ends[0], berths)
    berth = zygote._berth
    waiting = asyncio.ensure_future(zygote._fork(START, []))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert zygote._berth is berth
    assert berth is not None
    berths.go_on.set()
    assert (await berth).released is False  # type: ignore[attr-defined]
    assert berths.before == [None]


@pytest.mark.parametrize(
    ("hold", "code", "reason"),
    [
        (ProcessLookupError(3, "No such process"), "zygote_gone", "has gone"),
        (OSError(28, "No space left on device"), "fork_failed", "it cannot be limited"),
        (Hold(refuse=OSError(22, "Invalid argument")), "fork_failed", "it cannot be limited"),
        (Hold(), "fork_failed", "its environment's process cannot be asked"),
    ],
)
async def test_a_start_that_fails_says_where_and_the_next_one_has_a_berth_of_its_own(
    hold: Hold | OSError, code: str, reason: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    following = Hold()
    berths = Berths([hold, following])
    berths.go_on.set()
    zygote = create_zygote(ends[0], berths)
    with pytest.raises(Unavailable, match=reason) as caught:
        await zygote._fork(START, [2**20])  # no such descriptor
    assert caught.value.code == code
    taken = hold if isinstance(hold, Hold) else None
    assert taken is None or taken.released
    assert zygote._berth is not None
    assert await zygote._berth is following  # type: ignore[comparison-overlap]
    assert berths.before == [None, taken]
