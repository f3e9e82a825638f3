"""CloudEvents reach an agent in whatever form they come, at once or later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.platform import Installation, write_agent

NEWS = """
from cloudevents.http import CloudEvent
import functions_framework

@functions_framework.cloud_event
def handle(event: CloudEvent):
    return {"type": event["type"], "subject": event["subject"], "data": event.data}
"""
UNDECORATED = """
from orchestrator_runtime import Run

def handle(data, run: Run):
    return {"type": run.event["type"], "subject": run.event["subject"], "data": data}
"""
NEWER_PACKAGE = """
from cloudevents.core.v1.event import CloudEvent
from orchestrator_runtime import Run

def handle(data, run: Run):
    event = CloudEvent({name: value for name, value in run.event.items() if name != "time"}, data)
    return {"type": event.get_type(), "subject": event.get_subject(), "data": event.get_data()}
"""
NEWER = {"requirements.txt": "cloudevents==2.2.0\n"}  # which functions-framework does not take
FRAMEWORK = {"requirements.txt": "functions-framework==3.10.2\ncloudevents==1.12.0\n"}
EXPECTED = {"type": "page.changed", "subject": "a b", "data": {"page": 1}}
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/tests",
    "ce-type": "page.changed",
    "ce-subject": "a%20b",
    "Content-Type": "application/json",
}
STRUCTURED = {
    "specversion": "1.0",
    "id": "1",
    "source": "/tests",
    "type": "page.changed",
    "subject": "a b",
    "data": {"page": 1},
}


@pytest.fixture(
    scope="module",
    params=[(NEWS, FRAMEWORK), (UNDECORATED, {}), (NEWER_PACKAGE, NEWER)],
    ids=["decorated", "undecorated", "cloudevents 2"],
)
def news(
    platform: Installation, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Installation:
    code, files = request.param
    folder: Path = tmp_path_factory.mktemp("news")
    platform.deploy(write_agent(folder, name="news", code=code, files=files))
    return platform


def post(client: httpx.Client, form: str, **headers: str) -> httpx.Response:
    if form == "binary":
        return client.post("/agents/news", json={"page": 1}, headers={**BINARY, **headers})
    content_type = {"Content-Type": "application/cloudevents+json"}
    return client.post("/agents/news", content=json.dumps(STRUCTURED), headers={**content_type, **headers})


@pytest.mark.parametrize("form", ["binary", "structured"])
def test_an_event_is_answered_at_once(news: Installation, form: str) -> None:
    with news.client() as client:
        assert post(client, form).json() == EXPECTED


@pytest.mark.parametrize("form", ["binary", "structured"])
def test_an_accepted_event_keeps_its_attributes(news: Installation, form: str) -> None:
    with news.client() as client:
        accepted = post(client, form, Prefer="respond-async")
        assert accepted.status_code == 202
        address = accepted.headers["Location"]
        with client.stream("GET", f"{address}/events", headers={"Accept": "text/event-stream"}) as stream:
            for _ in stream.iter_lines():
                pass
        run: dict[str, Any] = client.get(address).json()
        assert (run["state"], run["trigger"]) == ("succeeded", "event"), run["problem"]
        assert client.get(f"{address}/output").json() == EXPECTED
