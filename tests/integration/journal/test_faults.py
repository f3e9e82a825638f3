"""Instances, connections and the server itself may go at any time: nothing is lost, stuck or done twice."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from control_api.journal import lifecycle
from control_api.store.partitions import payloads_of
from orchestrator_runtime.contract.errors import Conflict, Problem
from tests.integration.journal.world import World, sweep


async def test_a_running_run_goes_on_after_a_restart_of_the_server(journal: World) -> None:
    instance = await journal.instance("i-1")
    await instance.admit("r-1")
    await journal.restart()
    await journal.journal.instances_alive(["i-1"])
    again = await journal.instance("i-1")
    assert (await again.append("r-1", 1, {"kind": "log", "at": 1.0})).fields["seq"] == 2
    assert (await again.end("r-1", body=b"out")).fields["state"] == "succeeded"
    assert (await journal.result("r-1")).body == b"out"


async def test_a_server_that_was_away_for_longer_than_a_lease_takes_no_run_from_an_instance_that_lives(
    journal: World,
) -> None:
    await (await journal.instance("i-1")).admit("r-1")
    await journal.restart()
    journal.clock.advance(2 * lifecycle.LEASE)
    await journal.journal.instances_alive(["i-1"])
    assert await sweep(journal) == []
    assert (await journal.row("r-1")).state == "running"


async def test_instances_that_are_not_there_after_a_restart_have_lost_their_runs(journal: World) -> None:
    for name in ("i-1", "i-2"):
        await (await journal.instance(name)).admit(f"r-{name}")
    await journal.restart()
    await journal.journal.instances_alive(["i-2"])
    assert [(row.id, row.state) for row in await journal.all_rows()] == [("r-i-1", "waiting"), ("r-i-2", "running")]


async def test_everything_is_lost_if_no_instance_is_left(journal: World) -> None:
    await (await journal.instance()).admit("r-1")
    await journal.restart()
    await journal.journal.instances_alive([])
    assert (await journal.row("r-1")).state == "waiting"


async def test_an_end_whose_reply_was_lost_is_repeated(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1")
    ended = asyncio.ensure_future(instance.end("r-1", body=b"out"))
    await asyncio.sleep(0)
    instance.close()
    with pytest.raises(Problem):
        await ended
    again = await journal.instance()
    assert (await again.end("r-1", body=b"out")).fields["state"] == "succeeded"
    assert (await journal.row("r-1")).event_count == 2


async def test_an_admission_whose_reply_was_lost_is_repeated(journal: World) -> None:
    instance = await journal.instance()
    asked = instance.start_admit("r-1")
    await asyncio.sleep(0)
    instance.close()
    await instance.peer.lost
    assert asked.exception() is not None
    again = await journal.instance()
    reply = await again.admit("r-1")
    assert (reply.fields["outcome"], reply.fields["epoch"]) == ("started", 1)


async def test_a_waiting_admission_goes_with_its_connection(journal: World) -> None:
    first, second = await journal.instance("i-1"), await journal.instance("i-2")
    await first.admit("r-1")
    second.start_admit("r-1").add_done_callback(lambda answer: answer.exception())
    await second.in_order()
    second.close()
    await second.peer.lost
    await journal.journal.instances_lost(["i-1"], "killed")
    row = await journal.row("r-1")
    assert (row.state, row.epoch) == ("waiting", 1)


async def test_a_waiting_caller_gets_the_lost_run_s_next_attempt(journal: World) -> None:
    first, second = await journal.instance("i-1"), await journal.instance("i-2")
    await first.admit("r-1")
    waiting = second.start_admit("r-1")
    await second.in_order()
    await journal.journal.instances_lost(["i-1"], "killed")
    assert (await waiting).fields["epoch"] == 2


async def test_results_are_waited_for_across_attempts(journal: World) -> None:
    first, second = await journal.instance("i-1"), await journal.instance("i-2")
    await first.admit("r-1")
    waiting = asyncio.create_task(journal.result("r-1", wait=30.0))
    await journal.journal.instances_lost(["i-1"], "killed")
    await second.take("r-1")
    await second.end("r-1", epoch=2, body=b"out")
    assert (await waiting).body == b"out"


async def test_a_result_is_found_by_its_key_and_says_when_there_is_none(journal: World) -> None:
    instance = await journal.instance()
    assert (await journal.result("r-1", key="k")).fields == {"found": False}
    await instance.admit("r-1", key="k")
    assert (await journal.result("r-2", key="k")).fields == {"found": True, "run": "r-1", "state": "running"}


async def test_a_cancel_that_an_instance_missed_is_repeated_when_it_comes_back(journal: World) -> None:
    instance = await journal.instance("i-1")
    await instance.admit("r-1")
    instance.close()
    await instance.peer.lost
    await journal.journal.cancel("org-1", "r-1")
    again = await journal.instance("i-1")
    assert await again.cancels.get() == {"run": "r-1", "grace": 30.0}


async def test_a_run_that_was_cancelled_meanwhile_is_not_attempted_again(journal: World) -> None:
    instance = await journal.instance("i-1")
    await instance.admit("r-1")
    await journal.journal.cancel("org-1", "r-1")
    await journal.journal.instances_lost(["i-1"], "killed")
    assert (await journal.row("r-1")).state == "cancelled"


async def test_an_instance_may_answer_although_it_was_told_to_stop(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1")
    await journal.journal.cancel("org-1", "r-1")
    assert (await instance.end("r-1", body=b"in time")).fields["state"] == "succeeded"


async def test_another_agent_cannot_touch_the_run(journal: World) -> None:
    owner, stranger = await journal.instance("i-1"), await journal.instance("i-2", agent="other")
    await owner.admit("r-1", session="s")
    await owner.call("session.put", b"secret", run="r-1", epoch=1, session="s")
    with pytest.raises(Problem) as refused:
        await stranger.admit("r-1")
    assert refused.value.code == "run_unknown"
    with pytest.raises(Conflict):
        await stranger.end("r-1")
    with pytest.raises(Problem):
        await stranger.call("recorded", run="r-1")
    assert (await stranger.call("session.get", session="s")).fields["found"] is False


async def test_many_runs_at_once_are_all_recorded(journal: World) -> None:
    instances = [await journal.instance(f"i-{number}") for number in range(4)]

    async def one(number: int) -> str:
        instance = instances[number % 4]
        await instance.admit(f"r-{number}", b"x" * number)
        return str((await instance.end(f"r-{number}", body=b"y" * number)).fields["state"])

    assert set(await asyncio.gather(*map(one, range(200)))) == {"succeeded"}
    assert len(await journal.all_rows()) == 200


async def test_a_payload_that_two_runs_share_is_stored_once(journal: World) -> None:
    instance = await journal.instance()
    large = b"x" * 5000
    for run in ("r-1", "r-2"):
        await instance.admit(run, large)
        await instance.end(run, body=large)
    stored = payloads_of((await journal.row("r-1")).partition)
    found = await journal.database.read(lambda session: session.execute(stored.select()).all())
    assert len(found) == 1
    assert (await journal.result("r-2")).body == large


async def test_a_commit_that_fails_is_told_to_whoever_asked_and_the_next_one_may_succeed(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1")
    events = f"run_events_{(await journal.row('r-1')).partition}"
    await journal.database.write(lambda session: session.execute(text(f"ALTER TABLE {events} RENAME TO aside")))
    with pytest.raises(Problem) as failed:
        await instance.end("r-1")
    assert failed.value.code == "storage_unavailable"
    await journal.database.write(lambda session: session.execute(text(f"ALTER TABLE aside RENAME TO {events}")))
    assert (await instance.end("r-1")).fields["state"] == "succeeded"
