"""Spans of agents reach a collector on the machine itself, which the agents cannot reach."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.conftest import new_installation
from tests.e2e.platform import Installation, write_agent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PATIENCE = 30.0  # seconds until a test that hangs fails
CODE = """
import socket
import urllib.request
from urllib.parse import urlsplit

def handle(address, run):
    return run.step("look", look, address)

def look(address):
    found = urlsplit(address)
    ways = (
        lambda: socket.create_connection((found.hostname, found.port), timeout=5),
        lambda: urllib.request.urlopen(address, data=b"", timeout=5),  # by the proxy, where there is one
    )
    for way in ways:
        try:
            way().close()
        except OSError:
            continue
        return "reached"
    return "unreachable"
"""
NETWORKS = {"open": "internet", "listed": "[example.com]", "closed": "none"}


class Collector:
    """`endpoint`, and the spans that came, each with the resource it is of."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._spans: queue.Queue[tuple[dict[str, str], Any]] = queue.Queue()

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {each.key: each.value.string_value for each in group.resource.attributes}
            for scope in group.scope_spans:
                for span in scope.spans:
                    self._spans.put((resource, span))

    def of(self, service: str, *names: str) -> dict[str, Any]:
        """Wait for the spans with these names of a service."""
        found: dict[str, Any] = {}
        while set(found) != set(names):
            resource, span = self._spans.get(timeout=PATIENCE)
            if resource["service.name"] == service:
                found[span.name] = span
        return found


@contextmanager
def listening() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with listening() as made:
        yield made


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[Installation]:
    settings = {
        "ORCHESTRATOR_TELEMETRY_OTLP_ENDPOINT": collector.endpoint,
        "ORCHESTRATOR_TELEMETRY_TRACE_SAMPLE_RATIO": "0",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with new_installation(**settings) as running:
        yield running


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prefer", ["", "respond-async"])
def test_a_run_and_its_steps_reach_the_collector_and_the_agent_does_not(
    traced: Installation, collector: Collector, tmp_path: Path, name: str, prefer: str
) -> None:
    agent = f"{name}-{prefer}".rstrip("-")
    manifest = f"network: {NETWORKS[name]}\n"
    traced.deploy(write_agent(tmp_path / agent, name=agent, code=CODE, manifest=manifest))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", **({"prefer": prefer} if prefer else {})}
    with traced.client() as client:
        answer = client.post(f"/agents/{agent}", json=collector.endpoint, headers=headers)
    assert answer.status_code == (202 if prefer else 200)
    if not prefer:
        assert answer.text == "unreachable"

    spans = collector.of(agent, agent, "look")

    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert spans[agent].parent_span_id.hex() == PARENT
    assert spans["look"].parent_span_id == spans[agent].span_id
