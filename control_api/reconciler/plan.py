"""What to do next for an agent: pure functions from what is desired and observed to one action or one route.

No clock, no database, no platform: `reconciler` reads the situation, asks here, and does as it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from domain.deployment import DeploymentState, RevisionState, RevisionStatus, TrafficTarget


@dataclass(frozen=True, slots=True)
class Situation:
    """One deployment that is not finished, and what is known of it."""

    state: DeploymentState
    has_environment: bool  # the version's environment was built
    build_problem: dict[str, Any] | None = None
    probe: RevisionStatus | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """Have the version's environment made."""


@dataclass(frozen=True, slots=True)
class CreateRevision:
    """Number a new revision and serve it with no traffic."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Start one instance of the revision."""


@dataclass(frozen=True, slots=True)
class Activate:
    """The revision is ready: give it the agent's traffic."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up and say why; what served before keeps serving."""

    problem: Mapping[str, Any]


Action: TypeAlias = Build | CreateRevision | Probe | Activate | Fail


def next_action(situation: Situation) -> Action | None:
    """The one next step of a deployment; None when it is finished.

    Each step leads to another situation or ends the deployment, so repeating this always ends.
    """
    if situation.state is DeploymentState.BUILDING:
        if situation.build_problem is not None:
            return Fail(situation.build_problem)
        return CreateRevision() if situation.has_environment else Build()
    if situation.state is DeploymentState.STARTING:
        if situation.probe is None:
            return Probe()
        if situation.probe.state is RevisionState.READY:
            return Activate()
        return Fail(situation.probe.problem or {})
    return None


def traffic_after(traffic: Sequence[TrafficTarget], revision: str) -> tuple[TrafficTarget, ...]:
    """The agent's traffic once `revision` is ready: all of it. Tags stay where they are.

    A split between several revisions is somebody's wish and stays, too: the new one gets nothing until they say so.
    """
    if sum(target.percent > 0 for target in traffic) > 1:
        return tuple(traffic)
    return all_to(traffic, revision)


def all_to(traffic: Sequence[TrafficTarget], revision: str) -> tuple[TrafficTarget, ...]:
    """Every call to `revision`. Tags stay where they are."""
    tagged = [
        TrafficTarget(target.revision, 0, target.tag)
        for target in traffic
        if target.tag is not None and target.revision != revision
    ]
    own = next((target.tag for target in traffic if target.revision == revision), None)
    return (*tagged, TrafficTarget(revision, 100, own))


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision as it is stored. `number` grows with every deployment of the agent."""

    name: str
    number: int
    state: RevisionState


def served(
    revisions: Sequence[RevisionRecord], traffic: Sequence[TrafficTarget], *, with_open_runs: frozenset[str], kept: int
) -> tuple[list[str], list[str]]:
    """Which revisions the platform is to know, oldest first, and which ready ones are to be retired now.

    Served are: those with traffic or a tag, those being deployed, those with open runs, and the `kept` newest ready
    ones for a rollback. A retired one with open runs stays served until they end.
    """
    targets = {target.revision for target in traffic}
    ordered = sorted(revisions, key=lambda one: one.number)
    ready = [one.name for one in ordered if one.state is RevisionState.READY]
    spare = set([name for name in ready if name not in targets][-kept:])
    needed = targets | with_open_runs
    keep = [
        one.name
        for one in ordered
        if one.state is RevisionState.DEPLOYING
        or (one.state is not RevisionState.FAILED and (one.name in needed or one.name in spare))
    ]
    retire = [name for name in ready if name not in needed and name not in spare]
    return keep, retire


def one_before(revisions: Sequence[RevisionRecord], traffic: Sequence[TrafficTarget]) -> str | None:
    """What a rollback goes to by default: the newest ready revision that is older than all that get calls."""
    serving = {target.revision for target in traffic if target.percent}
    oldest = min((one.number for one in revisions if one.name in serving), default=0)
    ready = [one for one in revisions if one.state is RevisionState.READY and one.number < oldest]
    return max(ready, key=lambda one: one.number).name if ready else None
