"""Desired and observed state of an agent, and the values that travel between them.

The control API writes `DesiredAgent` (its routes and revisions); the platform makes it so and reports `RevisionStatus`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from domain.manifest import Framework, Manifest


class BuildState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RevisionState(StrEnum):
    """`deploying` until one instance became ready; `failed` revisions never get traffic; `retired` ones have none."""

    DEPLOYING = "deploying"
    READY = "ready"
    FAILED = "failed"
    RETIRED = "retired"


class DeploymentState(StrEnum):
    """`building` makes the environment, `starting` waits for the first instance, `ready` serves."""

    BUILDING = "building"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


BUILD_TRANSITIONS: Mapping[BuildState, frozenset[BuildState]] = {
    BuildState.PENDING: frozenset({BuildState.RUNNING, BuildState.FAILED}),
    BuildState.RUNNING: frozenset({BuildState.SUCCEEDED, BuildState.FAILED, BuildState.PENDING}),
    BuildState.SUCCEEDED: frozenset(),
    BuildState.FAILED: frozenset(),
}
DEPLOYMENT_TRANSITIONS: Mapping[DeploymentState, frozenset[DeploymentState]] = {
    DeploymentState.BUILDING: frozenset({DeploymentState.STARTING, DeploymentState.FAILED}),
    DeploymentState.STARTING: frozenset({DeploymentState.READY, DeploymentState.FAILED}),
    DeploymentState.READY: frozenset(),
    DeploymentState.FAILED: frozenset(),
}
REVISION_TRANSITIONS: Mapping[RevisionState, frozenset[RevisionState]] = {
    RevisionState.DEPLOYING: frozenset({RevisionState.READY, RevisionState.FAILED}),
    RevisionState.READY: frozenset({RevisionState.RETIRED}),
    RevisionState.FAILED: frozenset({RevisionState.RETIRED}),
    RevisionState.RETIRED: frozenset({RevisionState.READY}),
}


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a builder needs to know. `secrets`: only those that `builders.dependencies.is_build_secret` lets through."""

    organization: str
    version: str  # content digest
    source: str  # folder with the agent's files
    framework: Framework
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a version's dependencies are: a folder with a locked virtual environment, built once per lock digest."""

    digest: str
    path: str
    python: str  # the interpreter inside it


@dataclass(frozen=True, slots=True)
class Revision:
    """An immutable version of an agent as it runs. `name` is AGENT-00001 and is unique in its organization."""

    name: str
    organization: str
    agent: str
    version: str  # content digest
    manifest: Manifest
    environment: Environment
    source: str  # folder with the agent's files, read-only


@dataclass(frozen=True, slots=True)
class TrafficTarget:
    """A share of an agent's calls. The percentages of a route sum to exactly 100; a tag is unique and may have 0."""

    revision: str
    percent: int
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class DesiredAgent:
    """What the platform is to serve for one agent. Revisions outside `traffic` are still reachable by open runs."""

    organization: str
    name: str
    revisions: tuple[Revision, ...]
    traffic: tuple[TrafficTarget, ...]


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """What the platform observes of a revision."""

    revision: str
    state: RevisionState
    ready_instances: int = 0
    desired_instances: int = 0
    problem: Mapping[str, object] | None = None
    protections: Mapping[str, str] = field(default_factory=dict)  # protection -> in force | missing: why
