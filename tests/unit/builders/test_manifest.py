"""What is wrong with an agent.yaml, said at once: file, line, rule, and what was probably meant."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from builders import manifest
from domain.manifest import Access, Framework, Manifest, Metric
from orchestrator_runtime.contract.errors import Unprocessable

GOOD = "name: triage\nentrypoint: agent:graph\n"


def mistakes(text: str, **rest: Any) -> list[dict[str, Any]]:
    with pytest.raises(Unprocessable) as caught:
        manifest.read(textwrap.dedent(text), **rest)
    assert caught.value.code == "manifest_invalid"
    found: list[dict[str, Any]] = caught.value.extra["mistakes"]
    assert all(mistake["file"] == "agent.yaml" and mistake["line"] >= 1 for mistake in found)
    return found


def only(text: str, **rest: Any) -> tuple[int, str, str]:
    """The one mistake: line, rule, suggestion."""
    [mistake] = mistakes(text, **rest)
    return mistake["line"], mistake["rule"], mistake["suggestion"]


def test_two_lines_are_enough() -> None:
    read = manifest.read(GOOD)
    assert (read.name, read.framework, read.access, read.scale.metric) == (
        "triage",
        Framework.PLAIN,
        Access.ORGANIZATION,
        Metric.CONCURRENCY,
    )
    assert (read.payload_limit, read.memory_bytes, read.timeouts.run) == (10 * 2**20, 256 * 2**20, 300.0)


def test_everything_that_can_be_said() -> None:
    read = manifest.read(
        textwrap.dedent(
            """\
            api_version: 1
            name: triage
            version: 1.2.3-rc.1
            framework: langgraph
            entrypoint: package.module:factory.graph
            resources: {cpu: 500m, memory: 1.5Gi, scratch: 100M}
            scale: {min: 1, max: 3, metric: rps, target: 10, target_utilization: 80, concurrency_limit: 0, window: 6s}
            timeouts: {run: 1h, start: 500ms, grace: 2m}
            retries: {limit: 3, backoff: linear, delay: 2s, synchronous: true}
            payload_limit: 1Gi
            access: public
            network: [api.example.com, "*.Example.org", "host:443", "[::1]:80"]
            env: {MODEL: small}
            secrets: [API_KEY]
            triggers: [{http: {}}]
            """
        )
    )
    assert (read.resources.cpu, read.memory_bytes, read.resources.scratch) == (0.5, 1536 * 2**20, 100_000_000)
    assert (read.timeouts.run, read.timeouts.start, read.timeouts.grace) == (3600.0, 0.5, 120.0)
    assert read.network == ["api.example.com", "*.example.org", "host:443", "[::1]:80"]
    assert read.framework is Framework.LANGGRAPH


def test_memory_is_by_default_what_the_framework_needs() -> None:
    sizes = {name: manifest.read(f"{GOOD}framework: {name}\n").memory_bytes // 2**20 for name in Framework}
    assert sizes == {Framework.PLAIN: 256, Framework.LANGGRAPH: 512, Framework.AGNO: 512, Framework.CREWAI: 1024}


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file() -> None:
    found = mistakes(
        """\
        name: Issue Triage
        frmework: langgraph
        scale:
          min: 5
          max: -1
        entrypoint: agent/main.py
        """
    )
    assert [(mistake["line"], mistake["rule"]) for mistake in found] == [
        (1, "name.pattern"),
        (2, "frmework.unknown_key"),
        (5, "scale.max.too_small"),
        (6, "entrypoint.pattern"),
    ]
    assert [mistake["suggestion"] for mistake in found] == [
        "For example `name: issue-triage`",
        "Did you mean `framework`?",
        "For example `max: 20`",
        "For example `entrypoint: agent:graph`",
    ]


@pytest.mark.parametrize(
    ("text", "line", "rule", "suggestion"),
    [
        ("entrypoint: a:b\n", 1, "name.missing", "Add `name: issue-triage`"),
        (GOOD + "framework: langraph\n", 3, "framework.not_one_of", "Did you mean `langgraph`?"),
        (GOOD + "access: everyone\n", 3, "access.not_one_of", "Use one of: organization, agents, public"),
        (GOOD + "version: v1.2\n", 3, "version.pattern", "Write `version: 1.2.0`"),
        ("name: a\nentrypoint: ./agents/main.py:run\n", 2, "entrypoint.pattern", "Write `entrypoint: agents.main:run`"),
        (GOOD + "version: 1.2\n", 3, "version.wrong_type", 'Write it in quotes: version: "1.2"'),
        (GOOD + "resources:\n  memory: lots\n", 4, "resources.memory.invalid", "For example `memory: 512Mi`"),
        (GOOD + "resources:\n  cpu: 1000\n", 4, "resources.cpu.too_large", "For example `cpu: 500m`"),
        (GOOD + "resources:\n  cpu: 1m\n", 4, "resources.cpu.too_small", "For example `cpu: 500m`"),
        (GOOD + "resources:\n  memory: 1\n", 4, "resources.memory.too_small", "For example `memory: 512Mi`"),
        (GOOD + "resources:\n  memory: 10240Gi\n", 4, "resources.memory.too_large", "For example `memory: 512Mi`"),
        (GOOD + "resources:\n  scratch: 1Ki\n", 4, "resources.scratch.too_small", "For example `scratch: 512Mi`"),
        (GOOD + "timeouts:\n  run: 5 minutes\n", 4, "timeouts.run.invalid", "For example `run: 30s`"),
        (GOOD + "scale:\n  widnow: 6s\n", 4, "scale.widnow.unknown_key", "Did you mean `window`?"),
        (GOOD + "scale:\n  min: 5\n  max: 2\n", 4, "scale.min.contradiction", ""),
        (GOOD + "scale:\n  window: 6.5s\n", 4, "scale.window.contradiction", ""),
        (GOOD + "scale: many\n", 3, "scale.wrong_type", ""),
        (GOOD + "network: [https://api.example.com/v1]\n", 3, "network.0.pattern", "Write `api.example.com`"),
        (GOOD + "network: []\n", 3, "network.invalid", "For example `network: internet`"),
        (GOOD + "network: some\n", 3, "network.not_one_of", "Use one of: internet, none"),
        (GOOD + "env:\n  PORT: '1'\n", 4, "env.PORT.contradiction", ""),
        (GOOD + "env:\n  2X: '1'\n", 4, "env.2X.contradiction", ""),
        (GOOD + "env:\n  ORCHESTRATOR_HOME: x\n", 4, "env.ORCHESTRATOR_HOME.contradiction", ""),
        (GOOD + "env:\n  A: 1\n", 4, "env.A.wrong_type", 'Write it in quotes: A: "1"'),
        (GOOD + "secrets:\n  - A\n  - A\n", 5, "secrets.1.contradiction", ""),
        (GOOD + "secrets:\n  - K_SERVICE\n", 4, "secrets.0.contradiction", ""),
        (GOOD + "env: {A: x}\nsecrets:\n  - A\n", 5, "secrets.0.contradiction", ""),
        (GOOD + "description: " + "x" * 1001 + "\n", 3, "description.too_large", ""),
        (GOOD + "api_version: 2\n", 3, "api_version.not_one_of", "Use one of: 1"),
    ],
)
def test_a_mistake_has_a_line_a_rule_and_a_suggestion(text: str, line: int, rule: str, suggestion: str) -> None:
    assert only(text) == (line, rule, suggestion)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (GOOD + "mode: batch\n", "mode.not_yet"),
        (GOOD + "framework: workflow\n", "framework.not_yet"),
        (GOOD + "access: agents\n", "access.not_yet"),
        (GOOD + "scale: {metric: cpu}\n", "scale.metric.not_yet"),
        (GOOD + "triggers:\n  - schedule: '* * * * *'\n", "triggers.0.schedule.not_yet"),
        (GOOD + "triggers:\n  - event: {type: x}\n", "triggers.0.event.not_yet"),
    ],
)
def test_what_a_later_part_brings_is_refused_by_name_and_never_ignored(text: str, rule: str) -> None:
    [mistake] = mistakes(text)
    assert mistake["rule"] == rule
    assert "not there yet" in mistake["message"]
    assert mistake["suggestion"].startswith("Remove")


def test_a_bound_is_said_as_people_write_it() -> None:
    [mistake] = mistakes(GOOD + "resources: {memory: 1Ki}\n")
    assert mistake["message"] == '`resources.memory` is "1Ki", but must be at least 16Mi'


def test_more_memory_than_the_machine_has_is_refused_with_the_reason() -> None:
    text = GOOD + "resources:\n  memory: 6Gi\n"
    [mistake] = mistakes(text, memory=4 * 2**30)
    assert (mistake["line"], mistake["rule"]) == (4, "resources.memory.unavailable")
    assert mistake["message"] == "The agent asks for 6.0Gi of memory, but this machine has 4.0Gi"
    assert manifest.read(text, memory=6 * 2**30).memory_bytes == 6 * 2**30
    assert manifest.read(GOOD, memory=2**20).memory_bytes == 256 * 2**20


def test_a_gpu_that_is_not_there_is_refused_with_the_reason() -> None:
    text = GOOD + "resources:\n  gpu: 2\n"
    [mistake] = mistakes(text)
    assert (mistake["line"], mistake["rule"]) == (4, "resources.gpu.unavailable")
    assert mistake["message"] == (
        "The agent asks for 2 GPU(s), "
        "but the embedded engine on this machine gives agents no GPU; the cluster engine will"
    )
    assert mistake["suggestion"] == "Remove `gpu`"
    assert "this platform has 1" in mistakes(text, gpus=1)[0]["message"]
    assert manifest.read(text, gpus=2).resources.gpu == 2


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("", 1, "manifest.empty"),
        ("# nothing\n", 1, "manifest.empty"),
        ("- a\n", 1, "manifest.wrong_type"),
        ("name: [\n", 2, "yaml.syntax"),
        ("name: a\nname: b\nentrypoint: a:b\n", 2, "name.duplicate_key"),
        ("name: &a x\nentrypoint: *a\n", 1, "yaml.anchor"),
        ("name: !!python/object/apply:os.system [ls]\n", 1, "yaml.tag"),
        (GOOD + "---\nname: b\n", 3, "yaml.documents"),
        ("a: " + "[" * 40 + "]" * 40, 1, "yaml.depth"),
        ("name: a\x07\n", 1, "yaml.syntax"),
        (GOOD + "? [a, b]\n: c\n", 3, "yaml.key"),
        (GOOD + "scale:\n  min: " + "9" * 5000 + "\n", 4, "scale.min.syntax"),
        ("a: " + "x" * 300_000, 1, "yaml.too_large"),
    ],
)
def test_yaml_that_can_surprise_is_refused(text: str, line: int, rule: str) -> None:
    assert (line, rule) in [(mistake["line"], mistake["rule"]) for mistake in mistakes(text)]


def test_what_yaml_takes_for_a_date_is_a_text() -> None:
    assert manifest.read(GOOD + "env: {DAY: 2026-01-01}\n").env == {"DAY": "2026-01-01"}


def test_the_first_mistake_is_in_the_message_and_the_others_are_counted() -> None:
    with pytest.raises(Unprocessable) as caught:
        manifest.read("name: X\nframework: y\nentrypoint: a:b\n", file="agents/agent.yaml")
    assert caught.value.detail.startswith("agents/agent.yaml, line 1: `name` cannot be")
    assert caught.value.detail.endswith("(and 1 more)")


def test_the_schema_for_editors_knows_every_key() -> None:
    schema = manifest.json_schema()
    assert set(schema["properties"]) == set(Manifest.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["$id"] == "urn:orchestrator:schema:agent:1"
