"""A run from admission to its end, over the socket."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator_runtime.contract.errors import Conflict, Problem, Unprocessable
from tests.integration.journal.world import World

LARGE = b"x" * 300_000


async def test_a_call_is_admitted_and_its_answer_is_there_after_its_end(journal: World) -> None:
    instance = await journal.instance()

    admitted = await instance.admit("r-1", b'{"a": 1}', caller="me")
    assert admitted.fields == {"run": "r-1", "outcome": "started", "epoch": 1, "attempt": 1}
    assert (await journal.row("r-1")).state == "running"
    assert (await instance.end("r-1", body=b'{"b": 2}')).fields == {"state": "succeeded"}

    result = await journal.result("r-1")
    assert result.body == b'{"b": 2}'
    assert result.fields["ending"] == {"state": "succeeded", "status": 200, "content_type": "application/json"}
    row = await journal.row("r-1")
    assert (row.lease_expires_at, row.instance, row.event_count) == (None, None, 2)


@pytest.mark.parametrize("body", [b"", b"small", LARGE])
async def test_payloads_come_back_as_they_went_in(journal: World, body: bytes) -> None:
    await journal.submit("r-1", body)
    instance = await journal.instance()
    assert (await instance.take("r-1")).body == body
    await instance.end("r-1", body=body)
    assert (await journal.result("r-1")).body == body


async def test_a_key_that_is_used_twice_at_once_makes_one_run_and_both_get_its_answer(journal: World) -> None:
    first, second = await journal.instance("i-1"), await journal.instance("i-2")
    assert (await first.admit("r-1", key="k", fingerprint="f")).fields["outcome"] == "started"
    waiting = second.start_admit("r-2", key="k", fingerprint="f")
    await second.in_order()
    assert not waiting.done()
    await first.end("r-1", body=b"once")
    answered = await waiting
    assert (answered.fields["run"], answered.fields["outcome"], answered.body) == ("r-1", "finished", b"once")
    assert [row.id for row in await journal.all_rows()] == ["r-1"]


async def test_a_key_with_another_body_is_refused(journal: World) -> None:
    instance = await journal.instance()
    await instance.admit("r-1", key="k", fingerprint="f")
    with pytest.raises(Unprocessable) as refused:
        await instance.admit("r-2", key="k", fingerprint="g")
    assert refused.value.code == "idempotency_key_reused"


async def test_operations_of_one_batch_fail_alone(journal: World) -> None:
    instance = await journal.instance()
    calls = [
        instance.start_admit("r-1"),
        instance.peer.start_call("end", {"run": "nobody", "epoch": 1, "state": "succeeded", "status": 200}),
        instance.start_admit("r-2"),
    ]
    first, unknown, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(unknown, Problem)
    assert unknown.code == "run_unknown"
    assert {row.state for row in await journal.all_rows()} == {"running"}
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)


async def test_an_old_epoch_is_fenced(journal: World) -> None:
    first, second = await journal.instance("i-1"), await journal.instance("i-2")
    await first.admit("r-1")
    await journal.journal.instances_lost(["i-1"], "killed")
    assert (await second.take("r-1")).fields["epoch"] == 2
    with pytest.raises(Conflict) as fenced:
        await first.append("r-1", 1, {"kind": "log", "at": 1.0})
    assert fenced.value.code == "fenced"
    with pytest.raises(Conflict):
        await first.end("r-1", epoch=1)
    await second.end("r-1", epoch=2, body=b"second")
    assert (await journal.result("r-1")).body == b"second"


async def test_a_kind_of_step_that_nobody_knows_is_counted_as_other(journal: World) -> None:
    """An instance may send any text, and each would be a series of its own."""
    ended: list[tuple[str, str]] = []
    journal.journal.on_end(lambda end: ended.append((end.what, end.state)))
    instance = await journal.instance()
    await instance.admit("r-1")
    kinds = ("model", "run", "x" * 100, None)
    await instance.append("r-1", 1, *({"kind": "step.succeeded", "at": 1.0, "step_kind": kind} for kind in kinds))
    await instance.end("r-1")
    assert ended == [("model", "succeeded"), *[("other", "succeeded")] * 3, ("run", "succeeded")]
