"""What an operator looks at: metrics, health, logs, the API's description."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.platform import Installation, write_agent

STEPPING = """
from orchestrator_runtime import Run

async def fetch(page):
    return {"page": page}

async def handle(input, run: Run):
    return await run.step("fetch", fetch, input["page"])
"""


def test_metrics_count_runs_steps_and_calls(platform: Installation, tmp_path: Path) -> None:
    platform.deploy(write_agent(tmp_path / "counted", name="counted", code=STEPPING))
    with platform.client() as client:
        for page in range(3):
            assert client.post("/agents/counted", json={"page": page}).json() == {"page": page}
        text = client.get("/api/v1/metrics").text
    assert 'orchestrator_runs_total{agent="counted",state="succeeded"} 3.0' in text
    assert 'orchestrator_steps_total{agent="counted",kind="function",state="succeeded"} 3.0' in text
    assert 'orchestrator_step_seconds_count{agent="counted",kind="function"} 3.0' in text
    assert 'orchestrator_run_seconds_count{agent="counted"} 3.0' in text
    assert 'agent="counted",revision="counted-00001",status="200"} 3' in text


def test_every_log_line_of_the_platform_is_json_with_a_correlation_id(platform: Installation) -> None:
    lines = [json.loads(line) for line in platform.platform_log().splitlines()]
    assert lines
    assert all({"at", "level", "correlationId", "logger", "message"} <= line.keys() for line in lines)
    assert {line["level"] for line in lines} <= {"DEBUG", "INFO", "WARN", "ERROR", "FATAL"}


def test_the_api_describes_itself_without_the_internet(platform: Installation) -> None:
    with platform.client() as client:
        page = client.get("/api/v1/docs")
        document = client.get("/api/v1/openapi.json").json()
        script = client.get("/api/v1/docs/swagger-ui-bundle.js")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert document["openapi"].startswith("3.")
    assert script.status_code == 200
