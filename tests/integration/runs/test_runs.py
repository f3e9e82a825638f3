"""Runs over HTTP: what happened, exactly what went in and out, and what a person can do."""

from __future__ import annotations

from typing import Any

import pytest

from control_api.runs.schemas import RunDetails
from orchestrator_runtime.contract.errors import PROBLEM_CONTENT_TYPE
from tests.integration.journal.world import REQUEST
from tests.integration.runs.world import Api

LARGE = bytes(range(256)) * 1000


def step(kind: str, identity: str, at: float, **members: Any) -> dict[str, Any]:
    return {"kind": f"step.{kind}", "step": identity, "at": at, **members}


async def test_a_run_is_shown_with_all_that_is_known_of_it(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", session="s", key="k", caller="owner")
    usage = {"input_tokens": 3, "output_tokens": 4}
    await instance.end("r-1", usage=usage)

    run = await api.get("/runs/r-1")
    assert set(run) == set(RunDetails.model_fields)
    known: dict[str, Any] = {"agent": "echo", "revision": "echo-00001", "state": "succeeded", "session": "s"}
    known |= {"key": "k", "trigger": "http", "caller": "owner", "correlation_id": "c-r-1", "status": 200, "attempt": 1}
    assert {name: run[name] for name in known} == known
    assert run["usage"] == usage
    assert run["request"] == REQUEST
    assert run["created_at"] == run["ended_at"] == "2026-01-01T00:00:00.000Z"
    [attempt] = run["attempts"]
    assert (attempt["state"], attempt["instance"], attempt["epoch"]) == ("succeeded", "i-1", 1)


async def test_attempts_say_why_they_ended(api: Api) -> None:
    await api.journal.submit("r-1")
    for number, loses in ((1, True), (2, False)):
        instance = await api.journal.instance(f"i-{number}")
        await instance.take("r-1")
        if loses:
            await api.journal.journal.instances_lost([instance.id], "killed by signal 9")
        else:
            await instance.fail("r-1", epoch=2)
    run = await api.get("/runs/r-1")
    first, second = run["attempts"]
    assert (first["state"], first["reason"]) == ("lost", "killed by signal 9")
    assert (second["state"], second["problem"]["code"]) == ("failed", "agent_failed")
    assert run["problem"]["code"] == "agent_failed"


async def test_an_attempt_lists_the_recorded_calls_that_it_did_not_make_again(api: Api) -> None:
    await api.journal.submit("r-1")
    for number in (1, 2):
        instance = await api.journal.instance(f"i-{number}")
        await instance.take("r-1")
        if number == 1:
            await api.journal.journal.instances_lost([instance.id], "killed by signal 9")
    await instance.end("r-1", epoch=2, unasked=[{"name": "pay", "n": 1, "digest": "none of the reader's business"}])
    first, second = (await api.get("/runs/r-1"))["attempts"]
    assert (first["unasked"], second["unasked"]) == ([], [{"name": "pay", "n": 1}])


async def test_a_run_that_waits_says_for_what(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", session="s")
    await api.journal.submit("r-2", session="s")
    assert (await api.get("/runs/r-2"))["wait_reason"] == "session"


async def test_runs_are_listed_page_by_page_the_newest_first(api: Api) -> None:
    for number in range(5):
        await api.journal.submit(f"r-{number}")
    first = await api.get("/runs", limit=2)
    second = await api.get("/runs", limit=2, cursor=first["next"])
    third = await api.get("/runs", limit=2, cursor=second["next"])
    listed = [run["id"] for page in (first, second, third) for run in page["items"]]
    assert listed == ["r-4", "r-3", "r-2", "r-1", "r-0"]
    assert third["next"] is None


async def test_runs_are_filtered_by_agent_state_and_session(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", session="s")
    await instance.end("r-1")
    await api.journal.submit("r-2", agent="other")
    await instance.admit("r-3")

    async def listed(**wanted: str) -> list[str]:
        return [run["id"] for run in (await api.get("/runs", **wanted))["items"]]

    assert await listed(agent="other") == ["r-2"]
    assert await listed(state="running") == ["r-3"]
    assert await listed(session="s") == ["r-1"]
    assert await listed(session="s", state="failed") == []


async def test_another_organization_sees_nothing(api: Api) -> None:
    await api.journal.submit("r-1")
    assert (await api.stranger.get("/runs")).json()["items"] == []
    for path in ("", "/steps", "/events", "/input", "/output"):
        refused = await api.stranger.get(f"/runs/r-1{path}")
        assert (refused.status_code, refused.json()["code"]) == (404, "run_unknown")
    for verb in ("cancel", "retry"):
        refused = await api.stranger.post(f"/runs/r-1/{verb}")
        assert (refused.status_code, refused.json()["hint"]) == (404, "`orchestrator runs` lists them.")
    assert (await api.journal.row("r-1")).state == "pending"


@pytest.mark.parametrize("body", [b"", b"small", LARGE])
async def test_input_and_output_are_the_bytes_and_types_that_went_in_and_out(api: Api, body: bytes) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", body, request={**REQUEST, "content_type": "image/png"})
    await instance.end("r-1", body=body, content_type="audio/wav")
    for path, content_type in (("input", "image/png"), ("output", "audio/wav")):
        answer = await api.client.get(f"/runs/r-1/{path}")
        assert answer.content == body
        assert answer.headers["content-type"] == content_type
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_output_of_a_run_that_failed_without_an_answer_is_its_problem(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1")
    await instance.fail("r-1")
    answer = await api.client.get("/runs/r-1/output")
    assert answer.headers["content-type"] == PROBLEM_CONTENT_TYPE
    assert answer.json()["code"] == "agent_failed"


async def test_a_run_that_has_not_ended_has_no_output_yet(api: Api) -> None:
    await api.journal.submit("r-1")
    answer = await api.client.get("/runs/r-1/output")
    assert (answer.status_code, answer.json()["code"]) == (409, "run_not_ended")


async def test_steps_are_told_by_their_events(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1")
    events = [
        step("started", "1", 10.0, name="plan", step_kind="node"),
        step("started", "2", 11.0, parent="1", name="call", step_kind="model", part=0, data={"model": "small"}),
        step("succeeded", "2", 12.0, part=1, data={"input_tokens": 3}),
        step("failed", "1", 13.0, data={"error": "It broke"}),
        step("started", "3", 14.0, name="left", step_kind="tool"),
    ]
    await instance.append("r-1", 1, *events, blobs=[b'"question"', b'"answer"'])
    await instance.end("r-1")

    plan, call, left = (await api.get("/runs/r-1/steps"))["items"]
    assert (plan["id"], plan["name"], plan["kind"], plan["state"], plan["parent"]) == (
        "1",
        "plan",
        "node",
        "failed",
        None,
    )
    assert call["data"] == {"model": "small", "input_tokens": 3}
    assert (call["started_at"], call["ended_at"]) == ("1970-01-01T00:00:11.000Z", "1970-01-01T00:00:12.000Z")
    assert (left["state"], left["parent"]) == ("failed", None)
    for name, content in (("input_event", b'"question"'), ("output_event", b'"answer"')):
        assert (await api.client.get(f"/runs/r-1/events/{call[name]}/content")).content == content
    assert plan["input_event"] is None


async def test_steps_are_listed_page_by_page(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1")
    await instance.append("r-1", 1, *(step("started", str(number), 1.0) for number in range(5)))
    first = await api.get("/runs/r-1/steps", limit=3)
    second = await api.get("/runs/r-1/steps", limit=3, cursor=first["next"])
    assert [one["id"] for page in (first, second) for one in page["items"]] == ["0", "1", "2", "3", "4"]
    assert second["next"] is None


async def test_events_are_listed_page_by_page(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1")
    await instance.append("r-1", 1, {"kind": "log", "at": 1.0, "data": {"line": "hello"}})
    await instance.end("r-1")
    first = await api.get("/runs/r-1/events", limit=2)
    second = await api.get("/runs/r-1/events", limit=2, cursor=first["next"])
    assert [one["event"] for page in (first, second) for one in page["items"]] == [
        "run.started",
        "log",
        "run.succeeded",
    ]
    assert first["items"][1]["data"] == {"line": "hello"}
    missing = await api.client.get("/runs/r-1/events/9/content")
    assert (missing.status_code, missing.json()["code"]) == (404, "event_unknown")


async def test_a_run_is_followed_until_it_ends(api: Api) -> None:
    await api.journal.submit("r-1")
    instance = await api.journal.instance()
    seen = []
    async for number, name in api.follow("r-1"):
        seen.append((number, name))
        if name == "run.accepted":
            await instance.take("r-1")
        elif name == "run.started":
            await instance.end("r-1")
    assert seen == [(1, "run.accepted"), (2, "run.started"), (3, "run.succeeded")]


async def test_following_goes_on_after_the_last_event_that_was_seen(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1")
    await instance.end("r-1")
    assert [event async for event in api.follow("r-1", last=1)] == [(2, "run.succeeded")]
    assert [event async for event in api.follow("r-1", last=2)] == []
    headers = {"accept": "text/event-stream", "last-event-id": "x"}
    refused = await api.client.get("/runs/r-1/events", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "last_event_id_invalid")


async def test_a_run_that_nobody_works_on_is_cancelled_at_once(api: Api) -> None:
    await api.journal.submit("r-1")
    answer = await api.client.post("/runs/r-1/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert (await api.client.post("/runs/r-1/cancel")).json()["state"] == "cancelled"


async def test_a_running_run_is_asked_to_stop(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1")
    answer = (await api.client.post("/runs/r-1/cancel")).json()
    assert (answer["state"], answer["cancel_requested_at"]) == ("running", "2026-01-01T00:00:00.000Z")
    assert (await instance.cancels.get())["run"] == "r-1"


async def test_a_failed_run_gets_another_attempt(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", b"input")
    await instance.fail("r-1")
    answer = await api.client.post("/runs/r-1/retry")
    assert (answer.status_code, answer.json()["state"], answer.json()["wait_reason"]) == (202, "waiting", "dispatch")
    assert (await instance.take("r-1")).body == b"input"
    await instance.end("r-1", epoch=2)
    assert [one["state"] for one in (await api.get("/runs/r-1"))["attempts"]] == ["failed", "succeeded"]
    again = await api.client.post("/runs/r-1/retry")
    assert (again.status_code, again.json()["code"]) == (409, "run_not_failed")


async def test_the_time_until_which_a_run_waits_is_written_as_everywhere(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1")
    await instance.call("wait", run="r-1", epoch=1, reason="retry", until=1795528800.25)
    waiting = (await api.get("/runs/r-1/events"))["items"][-1]
    assert waiting["event"] == "run.waiting"
    assert waiting["data"]["until"] == "2026-11-24T14:00:00.250Z"
