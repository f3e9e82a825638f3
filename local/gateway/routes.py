"""The routing table: an immutable snapshot that the server pushes, and who may call what. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.autoscaler import ScaleConfig
from orchestrator_runtime.contract.errors import Forbidden, NotFound, Unauthenticated, Unavailable

INVOKE = "agents:invoke"
INVOKE_INTERNAL = "agents:invoke-internal"  # what a call from agent to agent carries
AGENT_PATH = re.compile(rb"/agents/([a-z][a-z0-9-]{0,39})(/.*)?", re.DOTALL)
AGENT_HOST = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.localhost(?::\d+)?", re.IGNORECASE)

RevisionKey = tuple[str, str]
"""(organization, revision name)"""


@dataclass(frozen=True, slots=True)
class Credential:
    """One token, known by its digest only."""

    digest: str
    organization: str
    permissions: frozenset[str]
    name: str  # for the journal: who calls
    agents: frozenset[str] = frozenset()  # names of those that it may call without the permission
    expires: float | None = None  # seconds since the epoch

    def may_invoke(self, agent: str) -> bool:
        return INVOKE in self.permissions or INVOKE_INTERNAL in self.permissions or agent in self.agents


@dataclass(frozen=True, slots=True)
class RevisionRoute:
    """How one revision is served. Times in seconds; `start` is what the supervisor needs to start an instance."""

    organization: str
    agent: str
    name: str
    scale: ScaleConfig
    timeout: float
    start_timeout: float
    grace: float
    start: Mapping[str, Any]
    environment: Mapping[str, Any]
    source: str
    secrets: tuple[str, ...] = ()

    @property
    def key(self) -> RevisionKey:
        return self.organization, self.name


@dataclass(frozen=True, slots=True)
class Route:
    """One agent: who may call it and how its calls are split. `shares`: (cumulated percentage, revision)."""

    organization: str
    organization_name: str
    agent: str
    access: str  # organization | agents | public
    payload_limit: int
    shares: tuple[tuple[float, str], ...]
    tags: Mapping[str, str]
    revisions: Mapping[str, RevisionRoute]

    def pick(self, tag: str | None, random: float) -> RevisionRoute:
        """The revision for one call; `random` is in [0, 1).

        Raises `NotFound` (`tag_unknown`) and `Unavailable` (`agent_not_ready`).
        """
        if tag is not None:
            if tag not in self.tags:
                raise NotFound(
                    f"{self.agent} has no revision with the tag {tag!r}",
                    code="tag_unknown",
                    hint=f"`orchestrator traffic {self.agent}` lists its tags, and gives one with --tag TAG=REVISION.",
                )
            return self.revisions[self.tags[tag]]
        point = random * 100
        for upto, revision in self.shares:
            if point < upto:
                return self.revisions[revision]
        raise Unavailable(
            f"No revision of {self.agent} is ready yet",
            code="agent_not_ready",
            hint=f"`orchestrator describe {self.agent}` says how its deployment goes, or why it failed.",
        )


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that was pushed at once."""

    generation: int = 0
    first_organization: str | None = None
    credentials: Mapping[str, Credential] = field(default_factory=dict)  # by digest
    agents: Mapping[tuple[str, str], Route] = field(default_factory=dict)  # by (organization, agent)
    hosts: Mapping[tuple[str, str], Route] = field(default_factory=dict)  # by (agent, organization name or id)

    def credential(self, authorization: bytes | None, *, now: float) -> Credential | None:
        """The credential that the header field names; None if there is none, it is not known, or it has expired.

        `now`: seconds since the epoch.
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        found = self.credentials.get(hashlib.sha256(authorization[7:].strip()).hexdigest())
        return None if found is not None and found.expires is not None and found.expires <= now else found

    def revision(self, organization: str | None, name: str) -> RevisionRoute:
        """Any revision that is served, with traffic or without. Raises `NotFound` (`revision_unknown`)."""
        for (owner, _), route in self.agents.items():
            if organization in {None, owner} and name in route.revisions:
                return route.revisions[name]
        raise NotFound(
            f"There is no revision {name}", code="revision_unknown", hint="`orchestrator describe NAME` lists them."
        )

    def by_path(self, agent: str, credential: Credential | None) -> Route | None:
        """The agent of the caller's own organization; without a credential that of the first one.

        Those of others are called by host then: a name of theirs must not decide what another's address means.
        """
        organization = self.first_organization if credential is None else credential.organization
        return self.agents.get((organization or "", agent))

    def by_host(self, host: bytes) -> tuple[Route, str | None] | None:
        """The agent and tag that `[TAG-]NAME.ORGANIZATION.localhost` names."""
        match = AGENT_HOST.fullmatch(host.decode("latin-1"))
        if match is None:
            return None
        label, organization = match[1].lower(), match[2].lower()
        route = self.hosts.get((label, organization))
        if route is not None:
            return route, None
        for index in (found.start() for found in re.finditer("-", label)):
            route = self.hosts.get((label[index + 1 :], organization))
            if route is not None and label[:index] in route.tags:
                return route, label[:index]
        return None


def authorise(route: Route | None, credential: Credential | None, *, agent: str) -> Route:
    """The route, if this caller may call it. A foreign organization's agent is not even admitted to exist."""
    if route is not None and route.access == "public":
        return route
    if credential is None:
        raise Unauthenticated(
            "This call needs a credential that is valid here",
            code="unauthenticated",
            hint="Send `Authorization: Bearer TOKEN`; the owner's token is in the file owner-token of the home folder.",
        )
    if route is not None and route.organization != credential.organization:
        route = None
    internal = route is not None and route.access == "agents"
    needed = INVOKE_INTERNAL if internal else INVOKE
    if not (INVOKE_INTERNAL in credential.permissions if internal else credential.may_invoke(agent)):
        raise Forbidden(
            f"This credential lacks the permission {needed}",
            code="permission_missing",
            hint="Ask the owner of the organization for it.",
            permission=needed,
        )
    if route is None:
        raise NotFound(
            f"There is no agent {agent}",
            code="agent_unknown",
            hint="`orchestrator ls` lists them; `orchestrator deploy` makes one.",
        )
    return route


def parse_table(fields: Mapping[str, Any], *, zero_grace: float) -> Table:
    """The table of a `routes` notification (docs/internals.md)."""
    credentials = {
        item["digest"]: Credential(
            digest=item["digest"],
            organization=item["organization"],
            permissions=frozenset(item["permissions"]),
            name=str(item.get("name") or f"credential:{item['digest'][:12]}"),
            agents=frozenset(item.get("agents", ())),
            expires=item.get("expires"),
        )
        for item in fields.get("credentials", ())
    }
    routes = [_route(item, zero_grace=zero_grace) for item in fields.get("agents", ())]
    hosts = {
        (route.agent, owner.lower()): route
        for route in routes
        for owner in (route.organization, route.organization_name)
    }
    return Table(
        generation=int(fields.get("generation", 0)),
        first_organization=fields.get("first_organization"),
        credentials=credentials,
        agents={(route.organization, route.agent): route for route in routes},
        hosts=hosts,
    )


def _route(item: Mapping[str, Any], *, zero_grace: float) -> Route:
    shares, tags, total = [], {}, 0.0
    revisions = {
        name: _revision(name, value, item=item, zero_grace=zero_grace) for name, value in item["revisions"].items()
    }
    for target in item.get("traffic", ()):
        if target["revision"] not in revisions:
            continue  # it is not served (yet); its share falls to nobody rather than to somebody else
        if target.get("tag"):
            tags[target["tag"]] = target["revision"]
        if target["percent"] > 0:
            total += target["percent"]
            shares.append((total, target["revision"]))
    return Route(
        organization=item["organization"],
        organization_name=item.get("organization_name") or item["organization"],
        agent=item["agent"],
        access=item.get("access", "organization"),
        payload_limit=int(item["payload_limit"]),
        shares=tuple(shares),
        tags=tags,
        revisions=revisions,
    )


def _revision(name: str, value: Mapping[str, Any], *, item: Mapping[str, Any], zero_grace: float) -> RevisionRoute:
    scale = value["scale"]
    limit = int(scale.get("concurrency_limit", 0))
    reached = any(target["revision"] == name for target in item.get("traffic", ()))
    return RevisionRoute(
        organization=item["organization"],
        agent=item["agent"],
        name=name,
        scale=ScaleConfig(
            metric=scale.get("metric", "concurrency"),
            target=scale.get("target"),
            utilization=float(scale.get("target_utilization", 70)) / 100,
            concurrency_limit=limit,
            window=float(scale.get("window", 60.0)),
            min=int(scale.get("min", 0)),
            max=int(scale.get("max", 0)),
            zero_grace=zero_grace,
            reachable=reached,
        ),
        timeout=float(value.get("timeout", 300.0)),
        start_timeout=float(value.get("start_timeout", 60.0)),
        grace=float(value.get("grace", 30.0)),
        start=value.get("start", {}),
        environment=value.get("environment", {}),
        source=value.get("source", ""),
        secrets=tuple(value.get("secrets", ())),
    )
