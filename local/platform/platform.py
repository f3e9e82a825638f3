"""`LocalPlatform`: what is desired and what is observed on this machine, and the two channels that connect them."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.deployment import DesiredAgent, RevisionState, RevisionStatus
from domain.home import Home
from local.platform.gateway_channel import GatewayChannel
from local.platform.log_files import read_log
from local.platform.routes import route
from local.platform.supervisor_channel import SupervisorChannel
from orchestrator_runtime.contract.errors import BadInput, Problem
from orchestrator_runtime.contract.wire import Handler, Message, Peer

LOG_INTERVAL = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the platform asks of the rest of the server. Messages are those of docs/internals.md, as they came."""

    submit_run: Callable[[Message], Awaitable[Message]]
    run_result: Callable[[Message], Awaitable[Message]]
    credentials: Callable[[Message], Awaitable[Message]]
    """`instance.credentials`: the journal token and the secrets of an instance that is being started."""
    instance_lost: Callable[[str, str], Awaitable[None]]
    """(instance, reason): it has gone; what it was working on needs another attempt."""
    instances_living: Callable[[list[str]], Awaitable[None]]
    """(instances): these live and no others do; said at the start of a connection to the supervisor."""
    renew_leases: Callable[[list[str]], Awaitable[None]]
    """(instances): these live."""
    changed: Callable[[str, str], None]
    """(organization, agent): something observed of the agent has changed."""
    credentials_used: Callable[[list[str]], None]
    """(digests): the gateway has let these in."""


class LocalPlatform:
    """Implements `domain.ports.Platform`.

    `settings` goes to every instance; `organization_name(id)` is what hosts call the organization now, and callers
    without a credential are in `first_organization` where no host says otherwise.
    `supervisor_handlers` take what the supervisor says about other things than instances, such as builds.
    """

    def __init__(
        self,
        *,
        home: Home,
        callbacks: Callbacks,
        organization_name: Callable[[str], str],
        first_organization: str,
        settings: dict[str, Any],
        supervisor_handlers: Mapping[str, Handler] | None = None,
        log_interval: float = LOG_INTERVAL,
    ) -> None:
        self._home = home
        self._callbacks = callbacks
        self._organization_name = organization_name
        self._first_organization = first_organization
        self._settings = settings
        self._log_interval = log_interval
        self._desired: dict[tuple[str, str], DesiredAgent] = {}
        self._routes: dict[tuple[str, str], dict[str, Any]] = {}
        self._credentials: list[dict[str, Any]] = []
        self._observed: dict[tuple[str, str], RevisionStatus] = {}
        self._instances: dict[str, dict[str, Any]] = {}
        self._protections: Mapping[str, str] = {}
        self.gateway = GatewayChannel(
            {
                "run.submit": lambda peer, message: callbacks.submit_run(message),
                "run.result": lambda peer, message: callbacks.run_result(message),
                "revision.status": self._status,
                "credentials.used": self._credentials_used,
            },
            routes=self._snapshot,
        )
        self.supervisor = SupervisorChannel(
            {
                "instance.ready": self._instance_ready,
                "instance.exited": self._instance_exited,
                "leases.renew": self._renew,
                "instance.credentials": lambda peer, message: callbacks.credentials(message),
                **(supervisor_handlers or {}),
            },
            on_subscribed=self._subscribed,
        )

    async def serve(self, listening: socket.socket, supervisor_socket: str) -> None:
        """Serve gateway and supervisor until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.gateway.serve(listening))
            tasks.create_task(self.supervisor.serve(supervisor_socket))

    def set_credentials(self, credentials: Sequence[dict[str, Any]]) -> None:
        """Who may call agents, for the gateway (docs/internals.md). Also pushes new names of organizations."""
        self._credentials = list(credentials)
        self.gateway.changed()

    # the port

    async def deploy(self, agent: DesiredAgent) -> None:
        key = (agent.organization, agent.name)
        if self._desired.get(key) == agent:
            return
        self._desired[key] = agent
        self._routes[key] = route(agent, settings=self._settings)
        self.gateway.changed()

    async def probe(self, organization: str, revision: str) -> RevisionStatus:
        try:
            await self.gateway.call("revision.probe", {"organization": organization, "revision": revision}, again=True)
        except Problem as problem:
            return RevisionStatus(revision, RevisionState.FAILED, problem=problem.document())
        return RevisionStatus(revision, RevisionState.READY, ready_instances=1, desired_instances=1)

    async def describe(self, organization: str, agent: str) -> list[RevisionStatus]:
        desired = self._desired.get((organization, agent))
        if desired is None:
            return []
        observed = (
            self._observed.get((organization, revision.name), RevisionStatus(revision.name, RevisionState.READY))
            for revision in desired.revisions
        )
        return [dataclasses.replace(status, protections=self._protections) for status in observed]

    async def list(self) -> list[tuple[str, str]]:
        return sorted(self._desired)

    async def remove(self, organization: str, agent: str) -> None:
        removed = self._desired.pop((organization, agent), None)
        if removed is None:
            return
        del self._routes[(organization, agent)]
        for revision in removed.revisions:
            self._observed.pop((organization, revision.name), None)
        self.gateway.changed()

    def instances(self, organization: str, agent: str) -> Sequence[dict[str, Any]]:
        """`InstanceInfo` of the agent's instances, without what is secret."""
        return [
            {key: info[key] for key in ("instance", "revision", "state", "started_at", "pid")}
            for info in self._instances.values()
            if (info["organization"], info["agent"]) == (organization, agent)
        ]

    def logs(self, organization: str, revision: str, *, follow: bool) -> AsyncIterator[bytes]:
        return read_log(self._home.log(organization, revision), follow=follow, interval=self._log_interval)

    # beyond the port: what only an embedded engine needs

    async def dispatch(self, fields: dict[str, Any], body: bytes) -> Message:
        """Send a recorded run to an instance (`run.dispatch`). Raises `Problem` if no instance could take it."""
        return await self.gateway.call("run.dispatch", fields, body)

    async def replace_instance(self, fields: dict[str, Any]) -> None:
        """Give {organization, revision, instance} no more calls, and end it after `grace` seconds."""
        await self.gateway.call("instance.replace", fields, again=True)

    async def gateway_metrics(self) -> str:
        """The gateway's metrics in Prometheus' text format. Raises `Unavailable`."""
        reply = await self.gateway.call("metrics", {})
        return reply.body.decode() or str(reply.fields.get("text", ""))

    # what the gateway and the supervisor say

    def _snapshot(self) -> dict[str, Any]:
        agents = [
            {**each, "organization_name": self._organization_name(organization)}
            for (organization, _), each in self._routes.items()
        ]
        return {"first_organization": self._first_organization, "credentials": self._credentials, "agents": agents}

    def _credentials_used(self, peer: Peer, message: Message) -> None:
        self._callbacks.credentials_used([str(digest) for digest in message.fields["digests"]])

    def _status(self, peer: Peer, message: Message) -> None:
        fields = message.fields
        try:
            organization = str(fields["organization"])
            status = RevisionStatus(
                revision=str(fields["revision"]),
                state=RevisionState(fields["state"]),
                ready_instances=int(fields.get("ready_instances", 0)),
                desired_instances=int(fields.get("desired_instances", 0)),
                problem=fields.get("problem"),
            )
        except (KeyError, ValueError) as error:
            raise BadInput(f"revision.status lacks or garbles {error}", code="bad_request") from error
        agent = self._agent_of(organization, status.revision)
        if agent is not None:  # else it was removed in the meantime
            self._observed[(organization, status.revision)] = status
            self._callbacks.changed(organization, agent.name)

    def _agent_of(self, organization: str, revision: str) -> DesiredAgent | None:
        """The agent that a revision belongs to; its name is the revision's without the number."""
        return self._desired.get((organization, revision.rpartition("-")[0]))

    async def _subscribed(self, fields: Mapping[str, Any]) -> None:
        self._protections = fields.get("protections", {})
        self._instances = {info["instance"]: info for info in fields["instances"]}
        await self._callbacks.instances_living(list(self._instances))

    def _instance_ready(self, peer: Peer, message: Message) -> None:
        info = message.fields
        self._instances[info["instance"]] = info
        self._callbacks.changed(info["organization"], info["agent"])

    async def _instance_exited(self, peer: Peer, message: Message) -> Message:
        info = message.fields
        self._instances.pop(info["instance"], None)
        self._callbacks.changed(info["organization"], info["agent"])
        await self._callbacks.instance_lost(info["instance"], info["reason"])
        return Message()

    async def _renew(self, peer: Peer, message: Message) -> Message:
        await self._callbacks.renew_leases(list(message.fields["instances"]))
        return Message()
