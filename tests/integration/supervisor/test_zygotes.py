"""When a zygote that nobody uses is ended. No process is started: zygotes are stand-ins, the clock is told the time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from domain.home import Home
from local.supervisor import sandboxes
from local.supervisor.egress import EgressOffers
from local.supervisor.sandboxes import UNUSED_AFTER, Sandboxes
from orchestrator_runtime.contract.instance import InstanceStart, Limits
from tests.fakes.manual_clock import ManualClock

ENVIRONMENT = {"digest": "e", "path": "/e", "python": "/e/bin/python"}
START = InstanceStart(
    organization="org-1",
    agent="a",
    revision="a-00001",
    version="v",
    instance="a-00001-1",
    framework="plain",
    entrypoint="a:b",
    limits=Limits(memory_bytes=2**20, cpu=1.0, processes=8),
    concurrency=0,
    timeout=1.0,
    grace=1.0,
    payload_limit=1,
    network="none",
    env={},
    secrets={},
    journal_token="t",
    call_token="c",
)


@dataclass
class Forked:
    device: int | None = None


@dataclass
class Ending:
    code: int = -9


@dataclass
class IdleZygote:
    """Forks whatever it is asked for, and ends when it is killed."""

    ready: dict[str, Any] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def start(cls, origin: object, **rest: object) -> IdleZygote:
        return cls()

    async def fork(self, start: InstanceStart, **rest: object) -> Forked:
        return Forked()

    def kill(self) -> None:
        self.ended.set()

    async def wait(self) -> Ending:
        await self.ended.wait()
        return Ending()


@dataclass
class World:
    sandboxes: Sandboxes
    clock: ManualClock

    async def warm(self, framework: str = "plain") -> IdleZygote:
        await self.sandboxes.warm("org-1", ENVIRONMENT, framework)
        return self.zygotes()[-1]

    async def fork(self) -> None:
        await self.sandboxes.fork(START, environment=ENVIRONMENT, source="/s", listen=0, control=0, stdout=1, stderr=2)

    def zygotes(self) -> list[IdleZygote]:
        return [warm.zygote.result() for warm in self.sandboxes._warm.values()]  # type: ignore[misc]

    def evict_after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.sandboxes.evict()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(sandboxes, "Zygote", IdleZygote)
    clock, offers = ManualClock(), EgressOffers()
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        home = Home(Path(folder))
        home.make()
        yield World(Sandboxes(home, egress=offers, clock=clock), clock)
    offers._ours.close()
    offers.theirs.close()


async def test_a_zygote_is_ended_when_nobody_used_it_for_long(world: World) -> None:
    zygote = await world.warm()
    world.evict_after(UNUSED_AFTER)
    assert not zygote.ended.is_set()
    world.evict_after(1)
    assert zygote.ended.is_set()
    await world.sandboxes.stop()


async def test_only_those_that_nobody_used_are_ended_and_the_next_use_starts_another(world: World) -> None:
    unused = await world.warm()
    world.clock.advance(UNUSED_AFTER)
    used = await world.warm("langgraph")
    world.evict_after(1)
    assert (unused.ended.is_set(), used.ended.is_set()) == (True, False)
    while unused in world.zygotes():
        await asyncio.sleep(0)
    another = await world.warm()
    assert not another.ended.is_set()
    await world.sandboxes.stop()


async def test_a_zygote_with_an_instance_stays_and_its_time_begins_when_the_last_one_has_gone(world: World) -> None:
    zygote = await world.warm()
    await world.fork()
    world.evict_after(10 * UNUSED_AFTER)
    assert not zygote.ended.is_set()
    world.sandboxes.ended(START, ENVIRONMENT)
    world.evict_after(UNUSED_AFTER)
    assert not zygote.ended.is_set()
    world.evict_after(1)
    assert zygote.ended.is_set()
    await world.sandboxes.stop()
