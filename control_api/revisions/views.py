"""What is stored of revisions and what is observed of them, brought together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_api.revisions.repository import StoredRevision
from control_api.revisions.schemas import InstanceView, RevisionView
from domain.deployment import RevisionStatus, TrafficTarget
from domain.ports import Platform


@dataclass(frozen=True, slots=True)
class Observed:
    """What the platform says of one agent right now."""

    statuses: Mapping[str, RevisionStatus]
    instances: Sequence[InstanceView]

    @property
    def ready_instances(self) -> int:
        return sum(status.ready_instances for status in self.statuses.values())


async def observe(platform: Platform, organization: str, agent: str) -> Observed:
    statuses = await platform.describe(organization, agent)
    instances = [InstanceView(**instance) for instance in platform.instances(organization, agent)]
    return Observed({status.revision: status for status in statuses}, instances)


def revision_views(
    stored: Sequence[StoredRevision], traffic: Sequence[TrafficTarget], observed: Observed
) -> list[RevisionView]:
    targets = {target.revision: target for target in traffic}
    return [_view(one, targets.get(one.name), observed) for one in stored]


def _view(stored: StoredRevision, target: TrafficTarget | None, observed: Observed) -> RevisionView:
    status = observed.statuses.get(stored.name)
    return RevisionView(
        name=stored.name,
        agent=stored.agent,
        digest=stored.digest,
        version=stored.label,
        state=stored.state,
        percent=target.percent if target else 0,
        tag=target.tag if target else None,
        ready_instances=status.ready_instances if status else 0,
        desired_instances=status.desired_instances if status else 0,
        protections=dict(status.protections) if status else {},
        instances=[instance for instance in observed.instances if instance.revision == stored.name],
        problem=stored.problem or _problem(status),
        created_at=stored.created_at,
    )


def _problem(status: RevisionStatus | None) -> dict[str, Any] | None:
    """Why instances of a revision that served before cannot be started now."""
    return dict(status.problem) if status and status.problem else None
