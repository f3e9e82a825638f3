"""What the gateway is told of an agent: `Route` of docs/internals.md, made from `DesiredAgent`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.deployment import DesiredAgent, Revision


def route(agent: DesiredAgent, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The agent as the gateway serves it. What callers meet before a revision is chosen is the newest revision's.

    `settings` goes to every instance (telemetry). An agent without revisions has a route that leads nowhere: its
    callers hear that it is not ready, and not that there is no such agent.
    """
    named = {"organization": agent.organization, "agent": agent.name}
    if not agent.revisions:
        return {**named, "payload_limit": 0, "traffic": [], "revisions": {}}
    serving = {target.revision for target in agent.traffic if target.percent}
    newest = [one for one in agent.revisions if one.name in serving] or agent.revisions
    manifest = newest[-1].manifest
    return {
        **named,
        "access": manifest.access.value,
        "payload_limit": manifest.payload_limit,
        "timeout": manifest.timeouts.run,
        "retries": manifest.retries.model_dump(mode="json"),
        "traffic": [
            {"revision": target.revision, "percent": target.percent, "tag": target.tag} for target in agent.traffic
        ],
        "revisions": {one.name: revision_route(one, settings=settings) for one in agent.revisions},
    }


def revision_route(revision: Revision, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`RevisionRoute`; `start` holds the members of `InstanceStart` that all instances of the revision share."""
    manifest = revision.manifest
    scale = manifest.scale.model_dump(mode="json")
    return {
        "scale": scale,
        "timeout": manifest.timeouts.run,
        "start_timeout": manifest.timeouts.start,
        "grace": manifest.timeouts.grace,
        "secrets": list(manifest.secrets),
        "environment": {
            "digest": revision.environment.digest,
            "path": revision.environment.path,
            "python": revision.environment.python,
        },
        "source": revision.source,
        "start": {
            "agent": revision.agent,
            "version": revision.version,
            "framework": manifest.framework.value,
            "entrypoint": manifest.entrypoint,
            "limits": {
                "memory_bytes": manifest.memory_bytes,
                "cpu": manifest.resources.cpu,
                "scratch_bytes": manifest.resources.scratch,
            },
            "concurrency": manifest.scale.concurrency_limit,
            "timeout": manifest.timeouts.run,
            "grace": manifest.timeouts.grace,
            "payload_limit": manifest.payload_limit,
            "network": manifest.network,
            "env": dict(manifest.env),
            "settings": dict(settings),
        },
    }
