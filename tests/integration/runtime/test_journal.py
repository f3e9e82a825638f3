"""The journal's client: what is recorded comes in order, survives lost connections, and says when it cannot be kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator_runtime import journal as module
from orchestrator_runtime.contract import wire
from orchestrator_runtime.contract.errors import BadInput, Conflict, TooLarge, Unavailable
from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.journal import JournalClient, RunJournal
from tests.fakes.journal_server import FakeJournal


@dataclass
class Connected:
    journal: FakeJournal
    client: JournalClient
    fenced: list[bool] = field(default_factory=list)

    async def admit(self, run: str = "r-1") -> RunJournal:
        fields = {"run": run, "trigger": "http", "request": {}, "deadline": 1.0, "correlation": "c"}
        reply = await self.client.call("admit", fields, b"input", patience=5)
        return RunJournal(self.client, reply.fields, on_fenced=lambda: self.fenced.append(True))


@asynccontextmanager
async def connected(*, token: str | None = None) -> AsyncIterator[Connected]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        async with FakeJournal(Path(folder) / "journal.sock", token=token) as journal:
            client = JournalClient("token", on_cancel=lambda run: None, path=str(journal.path))
            task = asyncio.create_task(client.run())
            try:
                yield Connected(journal, client)
            finally:
                task.cancel()
                await asyncio.wait([task])


async def test_events_of_one_turn_are_one_batch_and_keep_their_order() -> None:
    async with connected() as world:
        run = await world.admit()
        first = run.start_step("one", StepKind.TOOL, input={"a": 1})
        second = run.start_step("two", StepKind.MODEL, parent=first.id)
        await asyncio.gather(second.succeed("x", model="m", input_tokens=3), first.fail(ValueError("no\0\udcff")))
        assert await run.end({"state": "succeeded", "status": 200}, b"answer") == "succeeded"
        kept = world.journal.runs["r-1"]
        assert kept.kinds() == ["step.started", "step.started", "step.succeeded", "step.failed"]
        assert [event.content for event in kept.events] == [b'{"a": 1}', None, b'"x"', None]
        assert kept.events[1].fields["parent"] == first.id
        assert kept.events[3].fields["data"]["error"] == {"type": "ValueError", "message": "no?"}
        assert kept.ending is not None
        assert kept.ending["usage"] == {"input_tokens": 3}
        assert world.journal.received.count("append") == 1


async def test_the_end_comes_after_what_other_threads_recorded() -> None:
    async with connected() as world:
        run = await world.admit()
        step = run.start_step("one", StepKind.TOOL)
        await asyncio.to_thread(step.succeed_blocking, 1)
        await asyncio.to_thread(run.start_step("two", StepKind.TOOL).fail_blocking, KeyError("k"))
        await asyncio.to_thread(run.start_step, "three", StepKind.TOOL)
        await run.end({"state": "succeeded", "status": 200}, b"")
        assert world.journal.runs["r-1"].kinds().count("step.started") == 3


async def test_another_event_loop_may_record_too() -> None:
    async with connected() as world:
        run = await world.admit()

        async def elsewhere() -> bytes:
            await run.start_step("one", StepKind.TOOL).succeed(1)
            await run.journal("session.put", {"session": "s"}, b"state")
            return (await run.journal("session.get", {"session": "s"})).body

        assert await asyncio.to_thread(asyncio.run, elsewhere()) == b"state"
        assert world.journal.runs["r-1"].kinds() == ["step.started", "step.succeeded"]


async def test_blocking_in_the_event_loop_is_refused() -> None:
    async with connected() as world:
        step = (await world.admit()).start_step("one", StepKind.TOOL)
        with pytest.raises(RuntimeError, match="would stop the event loop"):
            step.succeed_blocking(1)
        with pytest.raises(RuntimeError, match="would stop the event loop"):
            step.fail_blocking(ValueError())


async def test_recorded_calls_are_found_by_name_arguments_and_number() -> None:
    async with connected() as world:
        run = await world.admit()
        for _ in range(2):
            identity, answer = run.recorded("pay", b"5")
            assert answer is None
            await run.start_step("pay", StepKind.TOOL, call=identity).succeed({"paid": identity["n"]})
        world.journal.lose("r-1")
        again = await world.admit()
        await again.fetch_recorded()
        assert again.unasked() == [{"name": "pay", "n": 1}, {"name": "pay", "n": 2}]
        again.recorded("pay", b"5")
        assert again.unasked() == [{"name": "pay", "n": 2}]


async def test_recorded_calls_are_answered_once_each() -> None:
    async with connected() as world:
        run = await world.admit()
        for _ in range(2):
            identity, _ = run.recorded("pay", b"5")
            await run.start_step("pay", StepKind.TOOL, call=identity).succeed({"paid": identity["n"]})
        world.journal.lose("r-1")
        again = await world.admit()
        await again.fetch_recorded()
        assert [again.recorded("pay", b"5")[1] for _ in range(3)] == [b'{"paid": 1}', b'{"paid": 2}', None]
        assert again.recorded("pay", b"6")[1] is None


async def test_an_attempt_that_lost_its_run_is_told_once() -> None:
    async with connected() as world:
        run = await world.admit()
        world.journal.lose("r-1")
        for _ in range(2):
            with pytest.raises(Conflict, match="does not have run"):
                await run.start_step("one", StepKind.TOOL).succeed(1)
        with pytest.raises(Conflict):
            await run.flush()
        assert world.fenced == [True]
        assert world.journal.received.count("append") == 1


async def test_an_event_that_cannot_be_written_is_the_problem_of_who_waits_for_it() -> None:
    async with connected() as world:
        run = await world.admit()
        with pytest.raises(BadInput, match="cannot be written"):
            await run.start_step("one", StepKind.TOOL).succeed(1, data=object())
        assert world.fenced == []


async def test_a_journal_that_has_no_room_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAYS", (0.0,))
    async with connected() as world:
        run = await world.admit()
        world.journal.refusals["end"] = Unavailable("disk full", code="storage_full")
        ending = asyncio.create_task(run.end({"state": "succeeded", "status": 200}, b""))
        await world.journal.until(lambda: world.journal.received.count("end") == 3)
        del world.journal.refusals["end"]
        assert await ending == "succeeded"


async def test_without_a_journal_an_admission_gives_up() -> None:
    client = JournalClient("token", on_cancel=lambda run: None, path="/nowhere")
    task = asyncio.create_task(client.run())
    with pytest.raises(Unavailable) as caught:
        await client.call("admit", {}, patience=0.0)
    assert caught.value.code == "journal_unavailable"
    task.cancel()


async def test_a_refused_token_is_tried_until_a_fresh_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAYS", (0.0,))
    async with connected(token="fresh") as world:
        await world.journal.until(lambda: world.journal.received.count("hello") >= 2)
        await world.client.renew("fresh")
        assert (await world.admit()).attempt == 1


async def test_a_fresh_token_that_is_refused_leaves_the_connection_as_it_was() -> None:
    async with connected(token="token") as world:
        await world.admit("r-1")
        await world.client.renew("bad")
        assert (await world.admit("r-2")).attempt == 1


async def test_what_is_too_large_for_the_protocol_is_refused_here_and_costs_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MAX_BODY_BYTES", 1000)
    async with connected() as world:
        run, other = await world.admit(), await world.admit("r-2")
        with pytest.raises(TooLarge):
            await run.start_step("one", StepKind.TOOL, input=b"x" * 1001).succeed()
        with pytest.raises(TooLarge):
            await run.end({"state": "succeeded", "status": 200}, b"x" * 1001)
        assert await other.end({"state": "succeeded", "status": 200}, b"x" * 1000) == "succeeded"
        assert world.journal.received.count("hello") == 1


async def test_a_reply_that_is_too_large_is_a_problem_for_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as world:
        run = await world.admit()
        await run.journal("session.put", {"session": "s"}, b"x" * 1001)
        monkeypatch.setattr(wire, "MAX_BODY_BYTES", 1000)
        with pytest.raises(TooLarge):
            await run.journal("session.get", {"session": "s"})


async def test_a_batch_ends_where_it_would_become_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_AT_ONCE", 1000)
    async with connected() as world:
        run = await world.admit()
        for _ in range(5):
            run.start_step("one", StepKind.TOOL, input=b"x" * 500)
        await run.end({"state": "succeeded", "status": 200}, b"")
        assert world.journal.received.count("append") == 3
        assert len(world.journal.runs["r-1"].events) == 5
