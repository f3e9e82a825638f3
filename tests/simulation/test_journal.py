"""Anything in any order: calls, ends, crashes, cancels, restarts, time. No run is ever stuck, lost or done by two.

A seed decides everything, so a failure is repeated by its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from control_api.journal.dispatcher import Dispatcher
from control_api.store.partitions import events_of
from orchestrator_runtime.contract.errors import Problem, Unavailable
from orchestrator_runtime.contract.wire import Message
from tests.fakes.instances import FakeInstances, Sending
from tests.integration.journal.world import ORGANIZATION, Instance, World, sweep, world

STEPS = 80
DRAINING = 60  # rounds in which everything must end once nothing goes wrong any more


@dataclass(slots=True)
class Simulation:
    world: World
    choose: random.Random
    ways: FakeInstances = field(default_factory=FakeInstances)
    instances: dict[str, Instance] = field(default_factory=dict)
    held: list[tuple[str, str, int]] = field(default_factory=list)  # run, instance, epoch: granted, and not yet ended
    asking: dict[asyncio.Future[Message], str] = field(default_factory=dict)  # admissions, and who asks
    sendings: list[Sending] = field(default_factory=list)
    epochs: Counter[str] = field(default_factory=Counter)
    made: int = 0
    dispatcher: Dispatcher | None = None

    async def begin(self) -> None:
        self.dispatcher = Dispatcher(self.world.journal, self.ways.send)
        for _ in range(3):
            await self.start_instance()

    async def start_instance(self) -> None:
        self.made += 1
        name = f"i-{self.made}"
        self.instances[name] = await self.world.instance(name)

    # what happens

    async def call(self) -> None:
        self.made += 1
        members: dict[str, Any] = {}
        if self.choose.random() < 0.4:
            members["session"] = self.choose.choice("st")
        if self.choose.random() < 0.3:
            members["key"] = self.choose.choice("kl")
        if self.choose.random() < 0.3:
            await self.world.submit(f"r-{self.made:04}", b"input", **members)
            return
        name = self.choose.choice(list(self.instances))
        asked = self.instances[name].start_admit(f"r-{self.made:04}", b"input", **members)
        self.asking[asked] = name

    async def end(self) -> None:
        if not self.held:
            return
        run, name, epoch = self.held.pop(self.choose.randrange(len(self.held)))
        instance = self.instances.get(name)
        if instance is None:
            return
        try:
            if self.choose.random() < 0.3:
                await instance.append(run, epoch, {"kind": "log", "at": 1.0}, batch=1)
            await (instance.fail if self.choose.random() < 0.3 else instance.end)(run, epoch)
        except Problem as problem:
            assert problem.code == "fenced"  # noqa: PT017 - most ends are not refused
        else:
            assert (await self.world.row(run)).epoch == epoch, "an old attempt has ended the run"

    async def kill(self) -> None:
        if len(self.instances) < 2:
            return
        name = self.choose.choice(list(self.instances))
        instance = self.instances.pop(name)
        instance.close()
        await instance.peer.lost
        await self.world.journal.instances_lost([name], "killed")
        await self.start_instance()

    async def lose(self) -> None:
        """The journal takes an instance for lost that goes on working."""
        await self.world.journal.instances_lost([self.choose.choice(list(self.instances))], "no longer seen")

    async def dispatch(self) -> None:
        assert self.dispatcher is not None
        await self.dispatcher.look()
        while not self.ways.sent.empty():
            self.sendings.append(self.ways.sent.get_nowait())
        if self.sendings:
            sending = self.sendings.pop(self.choose.randrange(len(self.sendings)))
            if self.choose.random() < 0.2:
                sending.refuse(Unavailable("No gateway", code="gateway_unavailable"))
                return
            await self.take(sending)

    async def take(self, sending: Sending) -> None:
        name = self.choose.choice(list(self.instances))
        try:
            self.granted(await self.instances[name].take(sending.run), name)
        except Problem:
            sending.answer(409)
        else:
            sending.answer(200)

    async def wait(self) -> None:
        self.world.clock.advance(self.choose.choice((0.1, 1.0, 5.0, 16.0)))
        alive = [name for name in self.instances if self.choose.random() < 0.9]
        await self.world.journal.renew(alive)
        await sweep(self.world)

    async def intervene(self) -> None:
        rows = await self.world.all_rows()
        if rows:
            run = self.choose.choice(rows)
            ask = self.choose.choice((self.world.journal.cancel, self.world.journal.again))
            with contextlib.suppress(Problem):  # it has not failed
                await ask(ORGANIZATION, run.id)

    async def restart(self) -> None:
        assert self.dispatcher is not None
        await self.dispatcher.close()
        for asked in self.asking:
            asked.add_done_callback(lambda lost: lost.cancelled() or lost.exception())
        self.asking.clear()
        self.sendings.clear()
        self.ways = FakeInstances()
        await self.world.restart()
        self.dispatcher = Dispatcher(self.world.journal, self.ways.send)
        alive = list(self.instances)
        await self.world.journal.instances_alive(alive)
        self.instances = {name: await self.world.instance(name) for name in alive}

    async def settle(self) -> None:
        """Let everything that was asked be executed, and take what was granted."""
        for instance in self.instances.values():
            await instance.in_order()
        for asked in [asked for asked in self.asking if asked.done()]:
            name = self.asking.pop(asked)
            if asked.exception() is None:
                self.granted(asked.result(), name)

    def granted(self, reply: Message, name: str) -> None:
        if reply.fields["outcome"] == "started":
            run, epoch = reply.fields["run"], reply.fields["epoch"]
            assert epoch >= self.epochs[run], "an older attempt was granted after a newer one"
            self.epochs[run] = epoch
            self.held.append((run, name, epoch))

    # what must hold

    async def check(self) -> None:
        busy: Counter[str] = Counter()
        rows = await self.world.all_rows()
        for row in rows:
            if row.ended_at is None:
                kept_by = (row.lease_expires_at is not None, row.wait_until is not None, row.wait_reason == "session")
                assert kept_by.count(True) == 1, f"{row.id} is kept by {kept_by}"
                busy[row.session] += row.wait_reason != "session"
        assert all(count <= 1 for session, count in busy.items() if session is not None), f"at once: {busy}"
        keys = Counter(row.key for row in rows if row.key is not None)
        assert all(count == 1 for count in keys.values()), f"runs of one key: {keys}"

    async def check_events(self) -> None:
        for row in await self.world.all_rows():
            table = events_of(row.partition)
            query = select(table.c.seq).where(table.c.run == row.id).order_by(table.c.seq)
            numbers = await self.world.database.read(lambda session, query=query: list(session.scalars(query)))  # type: ignore[misc]
            assert numbers == list(range(1, row.event_count + 1))

    async def drain(self) -> None:
        """Nothing goes wrong any more: everything ends, and everybody who asked is answered."""
        for _ in range(DRAINING):
            await self.settle()
            held, self.held = self.held, []
            for run, name, epoch in held:
                if name in self.instances:
                    with contextlib.suppress(Problem):  # fenced
                        await self.instances[name].end(run, epoch)
            self.world.clock.advance(16.0)
            await sweep(self.world)
            assert self.dispatcher is not None
            await self.dispatcher.look()
            while not self.ways.sent.empty():
                self.sendings.append(self.ways.sent.get_nowait())
            for sending in self.sendings:
                await self.take(sending)
            self.sendings.clear()
            if all(row.ended_at is not None for row in await self.world.all_rows()):
                break
        await self.settle()
        assert [row.id for row in await self.world.all_rows() if row.ended_at is None] == []
        assert not self.asking


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_every_run_is_kept_by_one_thing_and_ends(
    seed: int, sqlite_template: Callable[[], str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:  # not tmp_path: Unix sockets need short paths
        async with world(sqlite_template(), Path(folder) / "j.sock") as running:
            simulation = Simulation(running, random.Random(seed))
            await simulation.begin()
            happenings = [
                *[simulation.call] * 6,
                *[simulation.end] * 5,
                *[simulation.dispatch] * 5,
                *[simulation.wait] * 3,
                *[simulation.kill] * 2,
                *[simulation.lose] * 2,
                simulation.intervene,
            ]
            for step in range(STEPS):
                await (simulation.restart() if step == STEPS // 2 else simulation.choose.choice(happenings)())
                await simulation.settle()
                await simulation.check()
            await simulation.drain()
            await simulation.check_events()
            assert simulation.dispatcher is not None
            await simulation.dispatcher.close()
