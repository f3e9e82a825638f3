"""Runs that nobody else sends reach an instance, whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from control_api.changes import run_topic
from control_api.journal import dispatcher as dispatching
from control_api.journal.dispatcher import Dispatcher
from orchestrator_runtime.contract.errors import AgentError, BadGateway, BadInput, Problem, Unavailable
from tests.fakes.instances import FakeInstances
from tests.integration.journal.world import REQUEST, World

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def instances() -> FakeInstances:
    return FakeInstances()


@pytest_asyncio.fixture
async def dispatcher(journal: World, instances: FakeInstances) -> AsyncIterator[Dispatcher]:
    """It looks when the test says so: `run` is another test's."""
    made = Dispatcher(journal.journal, instances.send)
    yield made
    await made.close()


async def changed(journal: World, run: str, *, count: int) -> None:
    """Return when the run has `count` events."""
    with journal.changes.watch(run_topic(run)) as event:
        while (await journal.row(run)).event_count < count:
            await event.wait()
            event.clear()


async def settled(dispatcher: Dispatcher) -> None:
    """What was refused has given back its place: a commit is seen by others before whoever waits for it goes on."""
    while dispatcher._tasks:
        await asyncio.wait(dispatcher._tasks)


async def test_an_asynchronous_call_is_sent_with_all_that_makes_the_request(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances
) -> None:
    await journal.submit("r-1", b"input", caller="me", traceparent=TRACEPARENT)
    await dispatcher.look()
    sending = await instances.sent.get()
    assert sending.body == b"input"
    assert sending.fields == {
        "organization": "org-1",
        "run": "r-1",
        "agent": "echo",
        "revision": "echo-00001",
        "request": REQUEST,
        "deadline": 60.0,
        "correlation": "c-r-1",
        "caller": "me",
        "traceparent": TRACEPARENT,
    }


async def test_headers_reach_the_instance_that_takes_the_run_and_are_sealed_until_then(journal: World) -> None:
    headers = {"x-github-event": "push", "x-hub-signature-256": "sha256=canary"}
    await journal.submit("r-1", headers={**headers, "authorization": "Bearer canary"})
    row = await journal.row("r-1")
    assert row.request == REQUEST
    assert b"canary" not in row.headers
    assert (await (await journal.instance("i-1")).take("r-1")).fields["headers"] == headers
    await journal.journal.instances_lost(["i-1"], "killed")
    assert (await (await journal.instance("i-2")).take("r-1")).fields["headers"] == headers


async def test_headers_of_a_call_that_was_waited_for_reach_its_next_attempt(journal: World) -> None:
    await (await journal.instance("i-1")).admit("r-1", headers={"x-a": "b"})
    await journal.journal.instances_lost(["i-1"], "killed")
    assert (await (await journal.instance("i-2")).take("r-1")).fields["headers"] == {"x-a": "b"}


async def test_a_run_is_sent_once(journal: World, dispatcher: Dispatcher, instances: FakeInstances) -> None:
    await journal.submit("r-1")
    await dispatcher.look()
    await dispatcher.look()
    sending = await instances.sent.get()
    instance = await journal.instance()
    await instance.take("r-1")
    await dispatcher.look()
    await instance.end("r-1")
    sending.answer(200)
    await dispatcher.look()
    assert instances.sent.empty()
    assert (await journal.row("r-1")).event_count == 3


async def test_a_lost_attempt_is_sent_again_although_the_first_sending_has_not_come_back(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances
) -> None:
    await journal.submit("r-1")
    await dispatcher.look()
    await instances.sent.get()
    instance = await journal.instance("i-1")
    await instance.take("r-1")
    await journal.journal.instances_lost(["i-1"], "killed")
    await dispatcher.look()
    assert (await instances.sent.get()).run == "r-1"


async def test_what_no_instance_took_is_sent_again_after_a_while(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances
) -> None:
    await journal.submit("r-1")
    for events, delay in ((2, 1.0), (3, 2.0), (4, 4.0)):
        assert await dispatcher.look() <= dispatching.LONGEST_LOOK
        (await instances.sent.get()).refuse(Unavailable("No gateway", code="gateway_unavailable"))
        await changed(journal, "r-1", count=events)
        await settled(dispatcher)
        assert await dispatcher.look() == pytest.approx(delay)
        assert instances.sent.empty()
        journal.clock.advance(delay)
    assert (await journal.row("r-1")).wait_reason == "dispatch"


async def test_a_run_that_its_instance_answered_without_taking_it_is_sent_again(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances
) -> None:
    await journal.submit("r-1")
    await dispatcher.look()
    (await instances.sent.get()).answer(503)
    await changed(journal, "r-1", count=2)
    await settled(dispatcher)
    journal.clock.advance(1.0)
    await dispatcher.look()
    assert (await instances.sent.get()).run == "r-1"


@pytest.mark.parametrize(
    ("problem", "refusals"),
    [(BadInput("Too large", code="too_large"), 1), (BadGateway("It exits", code="instance_start_failed"), 8)],
)
async def test_what_no_repetition_mends_ends_as_failed(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances, problem: Problem, refusals: int
) -> None:
    await journal.submit("r-1")
    for refusal in range(refusals):
        await dispatcher.look()
        (await instances.sent.get()).refuse(problem)
        await changed(journal, "r-1", count=refusal + 2)
        await settled(dispatcher)
        journal.clock.advance(60.0)
    result = await journal.result("r-1")
    assert result.fields["state"] == "failed"
    assert result.fields["ending"]["problem"]["code"] == problem.code


async def test_however_often_it_was_just_too_early_one_refusal_does_not_end_a_run(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances
) -> None:
    full = Unavailable("The disk is full", code="no_space")
    cannot_start = Unavailable("No instance", code="instance_start_failed", cause=full.document())
    await journal.submit("r-1")
    problems: list[Problem] = [full, cannot_start] * dispatching.REFUSALS
    for count, problem in enumerate([*problems, BadGateway("It exits", code="instance_lost")], start=2):
        await dispatcher.look()
        (await instances.sent.get()).refuse(problem)
        await changed(journal, "r-1", count=count)
        await settled(dispatcher)
        journal.clock.advance(60.0)
    assert (await journal.row("r-1")).wait_reason == "dispatch"


async def test_an_agent_that_cannot_start_by_its_own_fault_ends_the_run(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances
) -> None:
    fault = AgentError("no module named x", code="import_failed")
    await journal.submit("r-1")
    for refusal in range(dispatching.REFUSALS):
        await dispatcher.look()
        problem = Unavailable("No instance", code="instance_start_failed", cause=fault.document())
        (await instances.sent.get()).refuse(problem)
        await changed(journal, "r-1", count=refusal + 2)
        await settled(dispatcher)
        journal.clock.advance(60.0)
    assert (await journal.result("r-1")).fields["ending"]["problem"]["code"] == "instance_start_failed"


async def test_a_sending_that_breaks_after_the_admission_changes_nothing(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances
) -> None:
    await journal.submit("r-1")
    await dispatcher.look()
    sending = await instances.sent.get()
    instance = await journal.instance()
    await instance.take("r-1")
    sending.refuse(Unavailable("The gateway was lost", code="connection_lost"))
    await dispatcher.close()
    assert (await journal.row("r-1")).state == "running"
    assert not dispatcher._tries


async def test_one_agent_does_not_take_all_places(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "OF_ONE_AGENT", 2)
    monkeypatch.setattr(dispatching, "AT_ONCE", 3)
    for number in range(4):
        await journal.submit(f"r-{number}")
    await journal.submit("other", agent="other")
    await dispatcher.look()
    sent = {(await instances.sent.get()).run for _ in range(3)}
    assert len(sent) == 3
    assert "other" in sent
    await dispatcher.look()
    assert instances.sent.empty()


async def test_an_admitted_run_makes_place_for_another_one(
    journal: World, dispatcher: Dispatcher, instances: FakeInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "AT_ONCE", 1)
    await journal.submit("r-1")
    await journal.submit("r-2")
    await dispatcher.look()
    first = await instances.sent.get()
    instance = await journal.instance()
    await instance.take(first.run)
    await dispatcher.look()
    second = await instances.sent.get()
    assert {first.run, second.run} == {"r-1", "r-2"}


async def test_running_it_sends_what_is_submitted_without_waiting_for_the_next_look(
    journal: World, instances: FakeInstances
) -> None:
    dispatcher = Dispatcher(journal.journal, instances.send)
    task = asyncio.create_task(dispatcher.run())
    try:
        await journal.submit("r-1")
        assert (await instances.sent.get()).run == "r-1"
        await journal.submit("r-2")
        assert (await instances.sent.get()).run == "r-2"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
