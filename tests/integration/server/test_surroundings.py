"""Health, metrics, backups and spans, each with the real thing behind it where there is one."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from control_api.app import create_app
from control_api.authorization import Credential, Credentials, token_digest
from control_api.backups.service import BackupService
from control_api.border import no_span
from control_api.health.service import HealthService
from control_api.journal.ledger import Ended
from control_api.metrics.service import Metrics
from control_api.settings import Telemetry
from control_api.store.database import Database, open_database
from control_api.store.migrate import migrate
from control_api.telemetry import request_spans, tracer_provider
from domain.roles import PERMISSIONS
from orchestrator_runtime.contract.errors import Unavailable
from tests.fakes.keys import organization_keys
from tests.fakes.manual_clock import ManualClock

CLOCK = ManualClock()
TOKEN = "orc_test"


class Parts:
    """What is connected, as a test wants it."""

    gateway = True
    supervisor = True

    async def gateway_metrics(self) -> str:
        if not self.gateway:
            raise Unavailable("The gateway is not running", code="gateway_unavailable")
        return "gateway_series 1\n"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url, backups=tmp_path / "backups", now=CLOCK.now())
    opened = open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def app(database: Database, parts: Parts, tmp_path: Path) -> FastAPI:
    metrics = Metrics(gateway=parts.gateway_metrics, waiting=lambda: 3)
    app = create_app(clock=CLOCK, measure=metrics.measure)
    app.state.credentials = Credentials([Credential("c", token_digest(TOKEN), "o-1", PERMISSIONS)])
    app.state.metrics = metrics
    app.state.health = HealthService(
        database=database, gateway=lambda: parts.gateway, supervisor=lambda: parts.supervisor
    )
    app.state.backups = BackupService(
        url=f"sqlite:///{tmp_path / 'test.db'}", folder=tmp_path / "backups", keys=organization_keys(), clock=CLOCK
    )
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as opened:
        yield opened


async def test_it_is_healthy_when_every_part_is_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "database": "ok", "gateway": "ok", "supervisor": "ok"}


async def test_a_missing_part_is_named(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.supervisor = False
    answer = await client.get("/api/v1/health")
    assert answer.status_code == 503
    assert answer.json()["code"] == "unhealthy"
    assert answer.json()["supervisor"] == "unavailable"
    assert answer.json()["gateway"] == "ok"


async def test_metrics_are_those_of_server_and_gateway(client: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.metrics.count_end(Ended("triage", "run", "succeeded", 0.2))
    app.state.metrics.count_end(Ended("triage", "model", "failed", 0.1, input_tokens=7, output_tokens=2))
    await client.get("/api/v1/health")
    page = (await client.get("/api/v1/metrics")).text
    assert 'orchestrator_server_requests_total{method="GET",route="/api/v1/health",status="200"} 1.0' in page
    assert 'orchestrator_runs_total{agent="triage",state="succeeded"} 1.0' in page
    assert 'orchestrator_steps_total{agent="triage",kind="model",state="failed"} 1.0' in page
    assert 'orchestrator_step_seconds_bucket{agent="triage",kind="model",le="0.1"} 1.0' in page
    assert 'orchestrator_model_tokens_total{agent="triage",direction="input"} 7.0' in page
    assert 'orchestrator_model_tokens_total{agent="triage",direction="output"} 2.0' in page
    assert "orchestrator_database_waiting 3.0" in page
    assert "orchestrator_gateway_up 1.0" in page
    assert page.endswith("gateway_series 1\n")


async def test_metrics_say_that_the_gateway_is_gone(client: httpx.AsyncClient, parts: Parts) -> None:
    parts.gateway = False
    page = (await client.get("/api/v1/metrics")).text
    assert "orchestrator_gateway_up 0.0" in page
    assert "gateway_series" not in page


async def test_a_backup_is_a_file_with_the_database(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/backups")
    assert answer.status_code == 201
    assert Path(answer.json()["path"]).stat().st_size == answer.json()["size"] > 0


class Collector(BaseHTTPRequestHandler):
    """Takes what an exporter sends."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Collector,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_without_a_collector_there_are_no_spans() -> None:
    assert request_spans(tracer_provider(Telemetry())) is no_span


async def test_requests_become_spans_of_the_caller_s_trace(collector: tuple[str, list[tuple[str, bytes]]]) -> None:
    address, received = collector
    provider = tracer_provider(Telemetry(otlp_endpoint=address, trace_sample_ratio=0.0))
    assert provider is not None
    app = create_app(clock=CLOCK, measure=lambda *_: None, span=request_spans(provider))
    app.state.credentials = Credentials([])
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        await client.get("/api/v1/health", headers=headers)  # sampled, because the caller's trace is
        await client.get("/api/v1/agents")  # not sampled: the ratio is 0
    provider.shutdown()
    [(path, body)] = received
    assert path == "/v1/traces"
    assert bytes.fromhex(trace) in body
    assert b"GET /api/v1/health" in body
