"""What an instance is told when it starts, with values that no test of an adapter looks at."""

from __future__ import annotations

from orchestrator_runtime.contract.instance import InstanceStart, Limits


def create_start(framework: str, *, concurrency: int = 0) -> InstanceStart:
    return InstanceStart(
        instance="instance-1",
        organization="default",
        agent="agent",
        revision="agent-00001",
        version="sha256:0",
        framework=framework,
        entrypoint="agent:agent",
        limits=Limits(memory_bytes=512 * 1024 * 1024, cpu=1),
        concurrency=concurrency,
        timeout=300,
        grace=10,
        payload_limit=10 * 1024 * 1024,
        call_token="call",
        journal_token="journal",
    )
