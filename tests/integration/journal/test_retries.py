"""An agent's own errors are retried as its manifest says; what no retry mends is not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from control_api.store.database import WriteSession
from control_api.store.tables import agents, revisions, versions
from tests.integration.journal.world import AGENT, ORGANIZATION, REVISION, World, sweep


async def deploy(journal: World, **manifest: Any) -> None:
    """The revision that all runs are of, with this manifest."""
    now = journal.clock.now()
    common = {"organization": ORGANIZATION, "agent": "a-1", "created_at": now}
    whole = {"name": AGENT, "entrypoint": "agent:handle", **manifest}

    def write(session: WriteSession) -> None:
        row = {"id": "a-1", "organization": ORGANIZATION, "name": AGENT, "created_at": now, "updated_at": now}
        session.execute(insert(agents).values(row))
        session.execute(
            insert(versions).values(digest="d", label="1.0.0", framework="plain", manifest=whole, source="s", **common)
        )
        session.execute(insert(revisions).values(name=REVISION, number=1, version="d", state="ready", **common))

    await journal.database.write(write)


async def waits(journal: World, run: str) -> float | None:
    """Seconds until the next attempt; None if there is none."""
    row = await journal.row(run)
    return None if row.wait_until is None else (row.wait_until - journal.clock.now()).total_seconds()


@pytest.mark.parametrize(
    ("backoff", "delays"), [("exponential", [2.0, 4.0, 8.0, None]), ("linear", [2.0, 4.0, 6.0, None])]
)
async def test_the_delay_grows_until_the_retries_are_spent(
    journal: World, backoff: str, delays: list[float | None]
) -> None:
    await deploy(journal, retries={"limit": 3, "delay": 2.0, "backoff": backoff})
    await journal.submit("r-1")
    instance = await journal.instance()
    for epoch, delay in enumerate(delays, 1):
        await instance.take("r-1")
        reply = await instance.fail("r-1", epoch=epoch)
        assert reply.fields["state"] == ("failed" if delay is None else "waiting")
        assert await waits(journal, "r-1") == delay
        journal.clock.advance(delay or 0)
    assert (await journal.row("r-1")).problem["code"] == "agent_failed"


async def test_a_repeated_end_of_an_attempt_that_is_retried_says_so_again(journal: World) -> None:
    await deploy(journal, retries={"limit": 1})
    await journal.submit("r-1")
    instance = await journal.instance()
    await instance.take("r-1")
    first = await instance.fail("r-1")
    assert first.fields["state"] == "waiting"
    assert (await instance.fail("r-1")).fields == first.fields
    assert (await journal.row("r-1")).failed_count == 1


async def test_a_synchronous_caller_is_not_kept_waiting_unless_the_agent_wants_it(journal: World) -> None:
    await deploy(journal, retries={"limit": 1})
    instance = await journal.instance()
    await instance.admit("r-1")
    assert (await instance.fail("r-1")).fields["state"] == "failed"


async def test_a_synchronous_call_is_retried_if_the_agent_wants_it(journal: World) -> None:
    await deploy(journal, retries={"limit": 1, "synchronous": True})
    instance = await journal.instance()
    await instance.admit("r-1")
    assert (await instance.fail("r-1")).fields["state"] == "waiting"


async def test_what_no_retry_mends_is_not_retried(journal: World) -> None:
    await deploy(journal, retries={"limit": 5})
    await journal.submit("r-1")
    instance = await journal.instance()
    await instance.take("r-1")
    assert (await instance.fail("r-1", retryable=False)).fields["state"] == "failed"


async def test_a_run_that_was_told_to_stop_is_not_retried(journal: World) -> None:
    await deploy(journal, retries={"limit": 5})
    await journal.submit("r-1")
    instance = await journal.instance()
    await instance.take("r-1")
    await journal.journal.cancel(ORGANIZATION, "r-1")
    assert (await instance.fail("r-1")).fields["state"] == "failed"


async def test_a_cancel_gives_the_time_that_the_agent_asks_for(journal: World) -> None:
    await deploy(journal, timeouts={"grace": 5.0})
    instance = await journal.instance()
    await instance.admit("r-1")
    await journal.journal.cancel(ORGANIZATION, "r-1")
    assert await instance.cancels.get() == {"run": "r-1", "grace": 5.0}
    journal.clock.advance(5)
    await sweep(journal)
    assert (await journal.row("r-1")).state == "cancelled"


async def test_an_attempt_that_took_too_long_is_retried_like_any_failure(journal: World) -> None:
    await deploy(journal, retries={"limit": 1, "delay": 3.0})
    await journal.submit("r-1")
    instance = await journal.instance()
    await instance.take("r-1")
    journal.clock.advance(65)
    await sweep(journal)
    row = await journal.row("r-1")
    assert (row.state, row.wait_reason, row.problem["code"]) == ("waiting", "retry", "run_timed_out")


async def test_trying_again_by_hand_gives_all_retries_again(journal: World) -> None:
    await deploy(journal, retries={"limit": 1, "delay": 1.0})
    await journal.submit("r-1")
    instance = await journal.instance()
    for epoch in (1, 2):
        await instance.take("r-1")
        await instance.fail("r-1", epoch=epoch)
    assert (await journal.journal.again(ORGANIZATION, "r-1")).fields == {"state": "waiting"}
    row = await journal.row("r-1")
    assert (row.problem, row.ended_at, row.failed_count) == (None, None, 0)
    await instance.take("r-1")
    assert (await instance.fail("r-1", epoch=3)).fields["state"] == "waiting"
