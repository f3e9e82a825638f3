"""Runs of a session go one at a time, in the order in which they came."""

from __future__ import annotations

import pytest

from control_api.journal.dispatcher import Dispatcher
from orchestrator_runtime.contract.errors import Conflict
from orchestrator_runtime.contract.ids import uuid7
from tests.fakes.instances import FakeInstances
from tests.integration.journal.world import World


async def test_a_second_call_of_a_session_waits_for_the_first_one_to_end(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1", session="s")
    second = instance.start_admit("r-2", b"2", session="s")
    journal.clock.advance(0.001)
    third = instance.start_admit("r-3", b"3", session="s")
    await instance.in_order()
    assert [row.wait_reason for row in await journal.all_rows()] == [None, "session", "session"]
    await instance.end("r-1")
    assert (await second).fields["outcome"] == "started"
    assert not third.done()
    await instance.end("r-2")
    assert (await third).fields["outcome"] == "started"


async def test_other_sessions_and_other_agents_do_not_wait(journal: World) -> None:
    instance, other = await journal.instance("i-1"), await journal.instance("i-2", agent="other")
    await instance.admit("r-1", session="s")
    assert (await instance.admit("r-2", session="t")).fields["outcome"] == "started"
    assert (await other.admit("r-3", session="s")).fields["outcome"] == "started"


async def test_a_failed_run_lets_the_next_one_go_on_but_one_that_is_retried_does_not(journal: World) -> None:
    first, second = await journal.instance("i-1"), await journal.instance("i-2")
    await first.admit("r-1", session="s")
    waiting = second.start_admit("r-2", session="s")
    await second.in_order()
    await journal.journal.instances_lost(["i-1"], "killed")
    await second.in_order()
    assert not waiting.done()
    await second.take("r-1")
    await second.fail("r-1", epoch=2)
    assert (await waiting).fields["outcome"] == "started"


async def test_a_cancelled_run_that_waited_for_its_session_answers_its_caller(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1", session="s")
    waiting = instance.start_admit("r-2", session="s")
    await instance.in_order()
    await journal.journal.cancel("org-1", "r-2")
    reply = await waiting
    assert (reply.fields["outcome"], reply.fields["ending"]["state"]) == ("finished", "cancelled")


async def test_a_dispatched_run_whose_turn_has_not_come_is_refused(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1", session="s")
    await journal.submit("r-2", session="s")
    with pytest.raises(Conflict) as refused:
        await instance.take("r-2")
    assert refused.value.code == "not_its_turn"


async def test_a_waiting_call_whose_instance_has_gone_is_sent_when_its_turn_comes(journal: World) -> None:
    first, second = await journal.instance("i-1"), await journal.instance("i-2")
    await first.admit("r-1", session="s")
    waiting = second.start_admit("r-2", b"input", session="s")
    await second.in_order()
    second.close()
    await second.peer.lost
    assert waiting.exception() is not None
    await first.end("r-1")
    instances = FakeInstances()
    dispatcher = Dispatcher(journal.journal, instances.send)
    await dispatcher.look()
    assert instances.sent.empty()  # its own instance has a head start
    journal.clock.advance(1)
    await dispatcher.look()
    assert (await instances.sent.get()).body == b"input"
    await dispatcher.close()


async def test_a_retried_run_waits_for_the_session_that_has_gone_on_without_it(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1", session="s")
    await instance.fail("r-1")
    await instance.admit("r-2", session="s")
    await journal.journal.again("org-1", "r-1")
    assert (await journal.row("r-1")).wait_reason == "session"
    await instance.end("r-2")
    assert (await journal.row("r-1")).wait_reason == "dispatch"
    session = await journal.all_rows()
    assert {row.state for row in session} == {"waiting", "succeeded"}


async def test_runs_of_a_session_that_come_in_one_batch_go_in_the_order_in_which_they_were_named(
    journal: World,
) -> None:
    instance = await journal.instance()
    runs = [uuid7() for _ in range(12)]
    admitting = [instance.start_admit(run, session="s") for run in runs]
    for run, admitted in zip(runs, admitting, strict=True):
        assert (await admitted).fields["run"] == run
        await instance.end(run)
