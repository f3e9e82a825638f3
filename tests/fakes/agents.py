"""Builders of values that many tests need."""

from __future__ import annotations

from typing import Any

from domain.deployment import DesiredAgent, Environment, Revision, TrafficTarget
from domain.manifest import Manifest

ENVIRONMENT = Environment(digest="e" * 64, path="/environments/e", python="/environments/e/bin/python")


def create_manifest(name: str = "triage", **values: Any) -> Manifest:
    return Manifest.model_validate({"name": name, "entrypoint": "agent:run", **values})


def create_revision(number: int = 1, *, agent: str = "triage", organization: str = "o-1", **manifest: Any) -> Revision:
    return Revision(
        name=f"{agent}-{number:05d}",
        organization=organization,
        agent=agent,
        version=f"{number:064x}",
        manifest=create_manifest(agent, **manifest),
        environment=ENVIRONMENT,
        source=f"/sources/{number}",
    )


def create_desired(*revisions: Revision, traffic: dict[str, int] | None = None) -> DesiredAgent:
    """An agent that serves `revisions`; all calls go to the last one unless `traffic` says otherwise."""
    last = revisions[-1]
    split = traffic if traffic is not None else {last.name: 100}
    return DesiredAgent(
        organization=last.organization,
        name=last.agent,
        revisions=revisions,
        traffic=tuple(TrafficTarget(name, percent) for name, percent in split.items()),
    )
