"""The journal protocol, from an instance's side: admission, events, ends, sessions."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator_runtime.contract.errors import BadInput, Conflict, NotFound, Problem, Unauthenticated, Unprocessable
from orchestrator_runtime.contract.wire import Message
from tests.conformance.journal.subjects import Subject
from tests.integration.journal.world import REQUEST


def log(line: str) -> dict[str, Any]:
    return {"kind": "log", "at": 1.0, "data": {"line": line}}


def answered(name: str, digest: str, n: int, part: int) -> dict[str, Any]:
    call = {"name": name, "digest": digest, "n": n}
    return {"kind": "step.succeeded", "step": f"{name}{n}", "at": 1.0, "call": call, "part": part}


async def test_nothing_is_done_before_hello(subject: Subject) -> None:
    instance = await subject.instance(greets=False)
    with pytest.raises(Unauthenticated) as refused:
        await instance.admit("r-1")
    assert refused.value.code == "journal_hello_missing"


async def test_an_unknown_operation_is_refused(subject: Subject) -> None:
    instance = await subject.instance()
    with pytest.raises(BadInput) as refused:
        await instance.call("teleport")
    assert refused.value.code == "unknown_operation"


async def test_members_that_a_newer_runtime_sends_are_ignored(subject: Subject) -> None:
    instance = await subject.instance()
    assert (await instance.admit("r-1", colour="blue")).fields["outcome"] == "started"
    assert (await instance.end("r-1", colour="blue")).fields["state"] == "succeeded"


async def test_a_repeated_admission_is_answered_as_the_first_one(subject: Subject) -> None:
    instance = await subject.instance()
    first = await instance.admit("r-1")
    assert (first.fields["epoch"], first.fields["attempt"]) == (1, 1)
    assert (await instance.admit("r-1")).fields == first.fields


async def test_an_ended_run_answers_again_what_it_answered(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    await instance.end("r-1", body=b"out", status=201, headers={"x-a": "b"}, usage={"input_tokens": 1})
    again = await instance.admit("r-1")
    assert again.fields["outcome"] == "finished"
    assert again.body == b"out"
    ending = {"state": "succeeded", "status": 201, "content_type": "application/json", "headers": {"x-a": "b"}}
    assert again.fields["ending"] == {**ending, "usage": {"input_tokens": 1}}


async def test_a_repeated_end_changes_nothing(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    first = await instance.end("r-1", body=b"first")
    assert (await instance.end("r-1", body=b"second")).fields == first.fields
    assert (await instance.admit("r-1")).body == b"first"


async def test_a_failure_is_repeated_as_the_problem_it_was(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    assert (await instance.fail("r-1", retryable=False)).fields["state"] == "failed"
    again = await instance.admit("r-1")
    assert again.fields["ending"]["problem"]["code"] == "agent_failed"


async def test_a_key_gives_the_run_that_it_gave_before(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1", key="k", fingerprint="f")
    await instance.end("r-1", body=b"once")
    again = await instance.admit("r-2", key="k", fingerprint="f")
    assert (again.fields["run"], again.fields["outcome"], again.body) == ("r-1", "finished", b"once")


async def test_a_key_with_another_body_is_refused(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1", key="k", fingerprint="f")
    with pytest.raises(Unprocessable) as refused:
        await instance.admit("r-2", key="k", fingerprint="g")
    assert refused.value.code == "idempotency_key_reused"


async def test_who_asks_for_a_run_that_another_instance_has_is_answered_when_it_ends(subject: Subject) -> None:
    first, second = await subject.instance("i-1"), await subject.instance("i-2")
    await first.admit("r-1")
    waiting = second.start_admit("r-1")
    await second.in_order()
    assert not waiting.done()
    await first.end("r-1", body=b"out")
    reply = await waiting
    assert (reply.fields["outcome"], reply.body) == ("finished", b"out")


async def test_a_dispatched_run_is_given_with_its_input_and_request(subject: Subject) -> None:
    await subject.submit("r-1", b"input")
    instance = await subject.instance()
    reply = await instance.take("r-1")
    assert (reply.fields["outcome"], reply.fields["request"], reply.body) == ("started", REQUEST, b"input")


async def test_an_unknown_run_cannot_be_dispatched(subject: Subject) -> None:
    instance = await subject.instance()
    with pytest.raises(NotFound) as refused:
        await instance.take("r-1")
    assert refused.value.code == "run_unknown"


async def test_what_an_old_attempt_writes_is_refused(subject: Subject) -> None:
    first, second = await subject.instance("i-1"), await subject.instance("i-2")
    await first.admit("r-1")
    await subject.lose("r-1", first)
    granted = await second.take("r-1")
    assert (granted.fields["epoch"], granted.fields["attempt"]) == (2, 2)
    old: dict[str, Any] = {"run": "r-1", "epoch": 1}
    writes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("append", {"events": []}),
        ("end", {"state": "succeeded", "status": 200}),
        ("wait", {"reason": "retry", "until": 5.0}),
        ("session.put", {"session": "s"}),
    )
    for operation, fields in writes:
        with pytest.raises(Conflict) as fenced:
            await first.call(operation, **old, **fields)
        assert fenced.value.code == "fenced"
    assert (await second.end("r-1", epoch=2)).fields["state"] == "succeeded"


async def test_a_repeated_batch_of_events_is_written_once(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    first = await instance.append("r-1", 1, log("a"), log("b"), batch=1)
    assert (await instance.append("r-1", 1, log("a"), log("b"), batch=1)).fields == first.fields
    second = await instance.append("r-1", 1, log("c"), batch=2)
    assert second.fields["seq"] == first.fields["seq"] + 1


async def test_events_without_a_batch_are_all_written(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    first = await instance.append("r-1", 1, log("a"))
    assert (await instance.append("r-1", 1, log("a"))).fields["seq"] == first.fields["seq"] + 1


async def test_recorded_calls_are_there_for_the_next_attempt(subject: Subject) -> None:
    first, second = await subject.instance("i-1"), await subject.instance("i-2")
    await first.admit("r-1")
    large = b"x" * 5000
    await first.append(
        "r-1",
        1,
        log("a"),
        answered("ask", "d", 0, 0),
        answered("ask", "d", 1, 1),
        {"kind": "step.failed", "step": "x", "at": 1.0},
        blobs=[b"one", large],
    )
    await subject.lose("r-1", first)
    assert (await second.take("r-1")).fields["recorded"] == 2
    reply = await second.call("recorded", run="r-1")
    blobs = reply.parts()
    assert [(call["name"], call["digest"], call["n"]) for call in reply.fields["calls"]] == [
        ("ask", "d", 0),
        ("ask", "d", 1),
    ]
    assert [blobs[call["part"]] for call in reply.fields["calls"]] == [b"one", large]


async def test_an_attempt_that_waits_leaves_the_run_to_the_next_one(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    await instance.call("wait", run="r-1", epoch=1, reason="retry", until=5.0)
    assert (await instance.take("r-1")).fields["epoch"] == 2


async def test_a_session_keeps_the_last_state(subject: Subject) -> None:
    instance = await subject.instance()
    missing = await instance.call("session.get", session="s")
    assert (missing.fields["found"], missing.body) == (False, b"")
    assert (await instance.admit("r-1", session="s")).fields["session"] == "s"
    for state in (b"one", b"two"):
        await instance.call("session.put", state, run="r-1", epoch=1, session="s")
    found = await instance.call("session.get", session="s")
    assert (found.fields["found"], found.body) == (True, b"two")


async def test_a_cancel_reaches_the_instance_that_has_the_run(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    await subject.cancel("r-1")
    notice = await instance.cancels.get()
    assert notice["run"] == "r-1"
    assert notice["grace"] > 0


async def test_problems_are_documents_with_a_code(subject: Subject) -> None:
    instance = await subject.instance()
    await instance.admit("r-1")
    with pytest.raises(Problem) as fenced:
        await instance.end("r-1", epoch=7)
    assert (fenced.value.code, fenced.value.status) == ("fenced", 409)
    assert isinstance(await instance.end("r-1"), Message)
