"""Whatever nobody works on moves on by itself. Time is the test's."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import func, select

from control_api.changes import run_topic
from control_api.journal import sweeper as sweeping
from control_api.journal.lifecycle import LEASE, OVERTIME
from control_api.journal.sweeper import Sweeper
from control_api.store.tables import identities
from orchestrator_runtime.contract.errors import Unavailable
from tests.integration.journal.world import World, sweep


async def test_a_lease_that_is_not_renewed_is_lost(journal: World) -> None:
    instance = await journal.instance("i-1")
    await instance.admit("r-1")
    journal.clock.advance(LEASE - 1)
    await sweep(journal)
    assert (await journal.row("r-1")).state == "running"
    journal.clock.advance(1)
    await sweep(journal)
    row = await journal.row("r-1")
    assert (row.state, row.wait_reason, row.lost_count, row.instance) == ("waiting", "dispatch", 1, None)


async def test_a_renewed_lease_lasts_until_the_deadline_and_no_longer(journal: World) -> None:
    instance = await journal.instance("i-1")
    await instance.admit("r-1", deadline=30.0)
    for _ in range(3):
        journal.clock.advance(10)
        await journal.journal.renew(["i-1", "i-2"])
        await sweep(journal)
        assert (await journal.row("r-1")).state == "running"
    journal.clock.advance(OVERTIME)
    assert await sweep(journal) == ["i-1"]  # it still works on it
    row = await journal.row("r-1")
    assert (row.state, row.problem["code"]) == ("failed", "run_timed_out")


async def test_what_a_run_records_does_not_undo_the_renewal_of_its_lease(journal: World) -> None:
    instance = await journal.instance("i-1")
    await instance.admit("r-1")
    journal.clock.advance(5)
    await journal.journal.renew(["i-1"])
    renewed = (await journal.row("r-1")).lease_expires_at
    await instance.append("r-1", 1, {"kind": "log", "at": 1.0})
    row = await journal.row("r-1")
    assert (row.lease_expires_at, row.event_count) == (renewed, 2)


async def test_a_run_that_loses_its_instances_again_and_again_ends_as_failed(journal: World) -> None:
    await journal.submit("r-1")
    for number in range(1, 5):
        instance = await journal.instance(f"i-{number}")
        await instance.take("r-1")
        await journal.journal.instances_lost([instance.id], "killed")
        journal.clock.advance(10)
    row = await journal.row("r-1")
    assert (row.state, row.problem["code"], row.attempt) == ("failed", "executor_lost", 4)


async def test_an_instance_that_does_not_obey_a_cancel_loses_the_run_after_its_grace(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1")
    assert (await journal.journal.cancel("org-1", "r-1")).fields == {"state": "running"}
    assert await instance.cancels.get() == {"run": "r-1", "grace": 30.0}
    journal.clock.advance(10)
    await journal.journal.renew(["i-1"])
    await sweep(journal)
    assert (await journal.row("r-1")).state == "running"
    journal.clock.advance(20)
    await sweep(journal)
    row = await journal.row("r-1")
    assert (row.state, row.status) == ("cancelled", 499)


async def test_a_session_whose_first_run_waits_for_nobody_is_woken(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1", session="s")
    await journal.submit("r-2", session="s")
    await journal.submit("r-3", session="s")
    await journal.database.write(  # what no code of ours does
        lambda session: session.connection.cursor().execute(
            "UPDATE runs SET state = 'cancelled', instance = NULL, lease_expires_at = NULL, ended_at = 1 "
            "WHERE id = 'r-1'"
        )
    )
    await sweep(journal)
    assert [(await journal.row(run)).wait_reason for run in ("r-2", "r-3")] == ["dispatch", "session"]


async def test_a_key_is_known_for_seven_days(journal: World) -> None:
    async def nothing_stops(fields: dict[str, Any]) -> None:
        raise AssertionError(fields)

    sweeper = Sweeper(journal.journal, journal.clock, nothing_stops)
    await journal.submit("r-1", key="k")

    async def known() -> int:
        query = select(func.count()).select_from(identities)
        return await journal.database.read(lambda session: session.execute(query).scalar_one())

    journal.clock.advance(7 * 86400)
    await sweeper.sweep()
    assert await known() == 1
    journal.clock.advance(3600)
    await sweeper.sweep()
    assert await known() == 0


async def test_running_it_looks_at_once_and_outlives_a_database_that_fails(
    journal: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop(fields: dict[str, Any]) -> None:
        raise Unavailable("The supervisor is away", code="supervisor_unavailable")

    monkeypatch.setattr(sweeping, "INTERVAL", 0.0)
    sweeper = Sweeper(journal.journal, journal.clock, stop)
    looks = iter((Unavailable("The disk is full", code="storage_unavailable"), None))
    look = sweeper.sweep

    async def sweep_or_fail() -> None:
        if (problem := next(looks, None)) is not None:
            raise problem
        await look()

    monkeypatch.setattr(sweeper, "sweep", sweep_or_fail)
    instance = await journal.instance()
    await instance.admit("r-1")
    journal.clock.advance(LEASE)
    with journal.changes.watch(run_topic("r-1")) as lost:
        task = asyncio.create_task(sweeper.run())
        await lost.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await sweeper.settle()
    assert "The disk is full" in caplog.text
    assert (await journal.row("r-1")).wait_reason == "dispatch"
