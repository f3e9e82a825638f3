"""The kinds of functions that functions-framework knows, called with its request types. Runs where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import flask
import functions_framework
import functions_framework.aio
import pytest
from cloudevents.http import CloudEvent
from starlette.requests import Request
from starlette.responses import Response

from orchestrator_runtime.contract.errors import BadInput, Unprocessable
from orchestrator_runtime.contract.instance import InstanceStart, Limits
from orchestrator_runtime.frameworks import plain
from orchestrator_runtime.frameworks.adapter import Answer
from orchestrator_runtime.frameworks.values import create_input
from tests.fakes.run_context import create_call

START = InstanceStart(
    instance="i",
    organization="o",
    agent="a",
    revision="a-00001",
    version="v",
    framework="plain",
    entrypoint="agent:handle",
    limits=Limits(memory_bytes=1 << 30, cpu=1.0),
    concurrency=0,
    timeout=60.0,
    grace=5.0,
    payload_limit=1 << 20,
    call_token="t",
    journal_token="t",
)
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-time": "2026-01-02T03:04:05Z"}


async def answer(function: Callable[..., Any], body: bytes = b"", **options: Any) -> Answer:
    options.setdefault("content_type", "application/json")
    call, _ = create_call(given=create_input(body, **options))
    return await plain.load(function, START).run(call)


# http


@functions_framework.http
def http(request: flask.Request) -> Any:
    assert flask.request.method == request.method
    if request.args.get("refuse"):
        flask.abort(418, "no coffee")
    if request.args.get("made"):
        return flask.Response(b"\x00", 201, {"X-A": "b"}, mimetype="image/png")
    return flask.jsonify(path=request.path, json=request.get_json(), header=request.headers.get("X-Own"))


async def test_an_http_function_works_within_a_request_of_flask() -> None:
    done = await answer(http, b'{"a": 1}', path="/x y", query="q=1", headers={"x-own": "yes"})
    assert json.loads(done.body) == {"path": "/x y", "json": {"a": 1}, "header": "yes"}
    assert (done.status, done.content_type) == (200, "application/json")


async def test_an_http_function_may_answer_with_all_of_flask() -> None:
    made = await answer(http, query="made=1")
    assert (made.status, made.body, made.content_type, made.headers["x-a"]) == (201, b"\x00", "image/png", "b")
    assert (await answer(http, query="refuse=1")).status == 418


@functions_framework.http
def raises(request: flask.Request) -> Any:
    raise ValueError("no")


async def test_an_error_of_an_http_function_is_the_agent_s() -> None:
    with pytest.raises(ValueError, match="no"):
        await answer(raises)


@functions_framework.aio.http
async def aio_http(request: Request) -> Any:
    if request.query_params.get("made"):
        return Response(b"\x00", 201, {"x-a": "b"}, "image/png")
    return {"path": request.url.path, "json": await request.json()}


async def test_an_asynchronous_http_function_gets_a_request_of_starlette() -> None:
    assert json.loads((await answer(aio_http, b"[1]", path="/x")).body) == {"path": "/x", "json": [1]}
    made = await answer(aio_http, query="made=1")
    assert (made.status, made.body, made.content_type, made.headers["x-a"]) == (201, b"\x00", "image/png", "b")


# events


@functions_framework.cloud_event
def event(given: CloudEvent) -> Any:
    if given.data == "reply":
        return CloudEvent({"type": "answer", "source": "/agent", "id": "2"}, {"to": given["id"]})
    return None if given.data is None else [given["id"], given["type"], given.data]


@pytest.mark.parametrize("structured", [False, True])
async def test_a_cloud_event_function_gets_an_event_in_either_form(structured: bool) -> None:
    if structured:
        whole = {name.removeprefix("ce-"): value for name, value in EVENT.items()} | {"data": {"a": 1}}
        done = await answer(event, json.dumps(whole).encode(), content_type="application/cloudevents+json")
    else:
        done = await answer(event, b'{"a": 1}', headers=EVENT)
    assert json.loads(done.body) == ["1", "t", {"a": 1}]


async def test_what_a_cloud_event_function_returns_is_an_event_or_nothing() -> None:
    assert (await answer(event, headers=EVENT)).status == 204
    reply = await answer(event, b'"reply"', headers=EVENT)
    assert reply.content_type == "application/cloudevents+json"
    assert json.loads(reply.body).items() >= {"type": "answer", "id": "2", "data": {"to": "1"}}.items()


async def test_a_background_event_becomes_a_cloud_event() -> None:
    data = {"message": {"data": "aGk=", "messageId": "7"}, "subscription": "projects/p/subscriptions/s"}
    old = {
        "context": {
            "eventId": "7",
            "timestamp": "2026-01-02T03:04:05.678Z",
            "eventType": "google.pubsub.topic.publish",
            "resource": {"service": "pubsub.googleapis.com", "name": "projects/p/topics/t", "type": "x"},
        },
        "data": data["message"],
    }
    done = json.loads((await answer(event, json.dumps(old).encode())).body)
    assert done[:2] == ["7", "google.cloud.pubsub.topic.v1.messagePublished"]


async def test_what_is_no_event_is_bad_input() -> None:
    for function in (event, background):
        with pytest.raises(BadInput) as caught:
            await answer(function, b"{}")
        assert caught.value.code == "cloudevent_expected"


@functions_framework.aio.cloud_event
async def aio_event(given: CloudEvent) -> Any:
    return given["id"]


async def test_an_asynchronous_cloud_event_function() -> None:
    assert (await answer(aio_event, headers=EVENT)).body == b"1"


def background(data: Any, context: Any) -> Any:
    return [data, context.event_id, context.timestamp, context.event_type, context.resource]


async def test_a_background_function_gets_data_and_context() -> None:
    done = await answer(background, b'{"a": 1}', headers=EVENT)
    assert json.loads(done.body) == [{"a": 1}, "1", "2026-01-02T03:04:05Z", "t", "/s"]
    old = {"eventId": "1", "timestamp": "2026", "eventType": "t", "resource": "r", "data": 5}
    assert json.loads((await answer(background, json.dumps(old).encode())).body) == [5, "1", "2026", "t", "r"]


async def test_a_background_function_gets_google_s_events_as_they_used_to_be() -> None:
    headers = EVENT | {
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-source": "//pubsub.googleapis.com/projects/p/topics/t",
    }
    body = json.dumps({"message": {"data": "aGk="}}).encode()
    done = json.loads((await answer(background, body, headers=headers)).body)
    assert done[0]["data"] == "aGk="
    assert done[3] == "google.pubsub.topic.publish"


async def test_a_function_without_a_decorator_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def undecorated(given: Any) -> Any:
        return given["id"]

    monkeypatch.setenv("FUNCTION_SIGNATURE_TYPE", "cloudevent")
    assert (await answer(undecorated, headers=EVENT)).body == b"1"


# typed


class City:
    def __init__(self, name: str) -> None:
        self.name = name

    @staticmethod
    def from_dict(values: dict[str, Any]) -> City:
        return City(values["name"])

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name.upper()}


@functions_framework.typed(City)
def typed(city):  # type: ignore[no-untyped-def] # it does not resolve annotations that are text
    return city if city.name else None


async def test_a_typed_function_gets_and_gives_its_types() -> None:
    assert (await answer(typed, b'{"name": "Ulm"}')).body == b'{"name":"ULM"}'
    assert (await answer(typed, b'{"name": ""}')).status == 204
    with pytest.raises(Unprocessable) as caught:
        await answer(typed, b"{}")
    assert caught.value.code == "input_invalid"
