"""The composition root: opens what there is, makes every service once, and connects them. Nothing else constructs them.

The only module that knows which platform is in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from uv import find_uv_bin

from control_api.agents.access import AgentAccess
from control_api.agents.service import AgentsService
from control_api.app import create_app
from control_api.authorization import Credential
from control_api.backups.service import BackupService
from control_api.builds.service import BuildsService
from control_api.changes import Changes, agent_topic
from control_api.deployments.service import DeploymentsService
from control_api.encryption.opening import is_new, open_keys
from control_api.encryption.resealing import Resealing
from control_api.encryption.service import EncryptionService
from control_api.encryption.sources import master_keys
from control_api.grants.service import GrantsService
from control_api.health.service import HealthService
from control_api.invitations.service import InvitationsService
from control_api.journal.dispatcher import Dispatcher
from control_api.journal.server import JournalServer
from control_api.journal.service import Journal
from control_api.journal.sweeper import Sweeper
from control_api.journal.tokens import LIFETIME, Identity, Tokens
from control_api.keys.service import KeysService
from control_api.keys.use import KeyUse
from control_api.logs.service import LogsService
from control_api.members.service import MembersService
from control_api.metrics.service import Metrics
from control_api.organizations import owner
from control_api.organizations.directory import Directory
from control_api.organizations.service import OrganizationsService
from control_api.reconciler.reconciler import Reconciler
from control_api.revisions.service import RevisionsService
from control_api.runs.service import RunsService
from control_api.secrets.outside import OutsideValues
from control_api.secrets.service import SecretsService
from control_api.service_accounts.service import ServiceAccountsService
from control_api.sessions.service import SessionsService
from control_api.settings import Settings
from control_api.store.database import Database, open_database
from control_api.store.keys import InstallationKey, OrganizationKeys
from control_api.store.migrate import migrate
from control_api.store.reachable import wait_until_reachable
from control_api.telemetry import agent_spans, request_spans, tracer_provider
from control_api.vault.client import Vault
from control_api.vault.kv import KeyValues
from control_api.versions.service import VersionsService
from domain.clock import Clock
from domain.ports import MasterKeys
from local.environments.builder import Environments
from local.environments.interpreters import Interpreters
from local.environments.remote import SupervisorSandbox
from local.platform import Callbacks, LocalPlatform
from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.journal import Admission, fingerprint
from orchestrator_runtime.contract.wire import Message, Peer

logger = logging.getLogger("bootstrap")

ADMISSION = tuple(Admission.__annotations__)


@dataclass(frozen=True, slots=True)
class Sockets:
    """Listening sockets that the supervisor opened, and the path of its own."""

    api: socket.socket
    journal: socket.socket
    control: socket.socket
    supervisor: str


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the database, and where the master key comes from."""

    masters: MasterKeys
    organizations: OrganizationKeys


def prepare(settings: Settings, *, clock: Clock) -> Keys:
    """Before anything serves: the master key, and a database of the shape this program knows that it opens.

    Raises `Conflict`, or `Unavailable` (`database_unreachable`, `vault_sealed`, `vault_unreachable`).
    """
    home, url = settings.layout, settings.database_url
    home.make()
    wait_until_reachable(url)
    masters = master_keys(settings, is_new=is_new(url))
    current = masters.current()
    saved = migrate(url, backups=home.backups, now=clock.now(), seal=partial(InstallationKey.make, 0, current))
    if saved is not None:
        logger.info("Backed the database up before the migration: %s", saved)
    return Keys(masters, open_keys(url, masters, clock=clock))


class Server:
    """Everything that lives in the server's process."""

    @classmethod
    async def create(cls, settings: Settings, *, keys: Keys, clock: Clock, address: str) -> Server:
        """Open the database and find the owner; `keys` is what `prepare` returned."""
        database = open_database(settings.database_url)
        token = owner.read_token(settings.layout.owner_token)
        await database.write(lambda session: owner.ensure(session, keys.organizations, token=token, now=clock.now()))
        signing = await database.read(partial(keys.organizations.token_keys, lifetime=LIFETIME))
        return cls(
            settings,
            database=database,
            keys=keys,
            tokens=Tokens(*signing, clock=clock),
            directory=await Directory.load(database, clock=clock),
            clock=clock,
            address=address,
        )

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        keys: Keys,
        tokens: Tokens,
        directory: Directory,
        clock: Clock,
        address: str,
    ) -> None:
        home = settings.layout
        self.database = database
        self.directory = directory
        self._tokens = tokens
        changes = Changes()
        organizations = keys.organizations
        self.journal = Journal(database, keys=organizations, clock=clock, changes=changes)
        self.secrets = SecretsService(
            database=database,
            keys=organizations,
            clock=clock,
            outside=OutsideValues(_key_values(settings), clock=clock),
        )
        self.resealing = Resealing(database=database, keys=organizations)
        sandbox = SupervisorSandbox(self._supervisor)
        self.platform = LocalPlatform(
            home=home,
            callbacks=self._callbacks(changes),
            organization_name=directory.name_of,
            first_organization=directory.first,
            settings=_instance_settings(settings),
            supervisor_handlers=sandbox.handlers,
        )
        directory.tell = self._tell_gateway
        self._push_credentials()
        self.key_use = KeyUse(database, directory.credentials)
        uv = find_uv_bin()
        builder = Environments(
            home=home,
            sandbox=sandbox,
            interpreters=Interpreters(uv=uv, downloads=home.root / "interpreters"),
            uv=uv,
            operator=os.environ,
            clock=clock,
        )
        builder.clear_unfinished()
        self.metrics = Metrics(gateway=self.platform.gateway_metrics, waiting=lambda: database.waiting)
        self.journal.on_end(self.metrics.count_end)
        self.reconciler = Reconciler(
            database=database,
            platform=self.platform,
            builder=builder,
            clock=clock,
            changes=changes,
            home=home,
            secrets=self.secrets,
            settings=settings,
        )
        self._agent_spans = agent_spans(settings.telemetry)
        take_spans = self._agent_spans.take if self._agent_spans is not None else None
        self.journal_server = JournalServer(self.journal, tokens, take_spans=take_spans)
        self.dispatcher = Dispatcher(self.journal, self.platform.dispatch)
        self.sweeper = Sweeper(self.journal, clock, self.platform.replace_instance)
        self._spans = tracer_provider(settings.telemetry)
        self.app = create_app(clock=clock, measure=self.metrics.measure, span=request_spans(self._spans))
        common: dict[str, Any] = {"database": database, "clock": clock}
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        versions = VersionsService(**common, home=home, settings=settings, memory=memory)
        versions.clear_unfinished()
        known: dict[str, Any] = {**common, "directory": directory}
        services: dict[str, object] = {
            "access": AgentAccess(database),
            "agents": AgentsService(
                **known, platform=self.platform, reconciler=self.reconciler, changes=changes, address=address
            ),
            "backups": BackupService(url=settings.database_url, folder=home.backups, keys=organizations, clock=clock),
            "builds": BuildsService(database=database),
            "changes": changes,
            "credentials": directory.credentials,
            "deployments": DeploymentsService(**common, reconciler=self.reconciler, changes=changes, address=address),
            "encryption": EncryptionService(
                database=database,
                keys=organizations,
                masters=keys.masters,
                source=settings.encryption.source,
                tokens=tokens,
                resealing=self.resealing,
            ),
            "grants": GrantsService(**known, changes=changes),
            "health": HealthService(
                database=database,
                gateway=lambda: self.platform.gateway.connected,
                supervisor=lambda: self.platform.supervisor.connected,
            ),
            "invitations": InvitationsService(**known, keys=organizations),
            "keys": KeysService(**known),
            "logs": LogsService(database=database, platform=self.platform, changes=changes),
            "members": MembersService(**known),
            "metrics": self.metrics,
            "organizations": OrganizationsService(database=database, directory=directory),
            "revisions": RevisionsService(database=database, platform=self.platform),
            "runs": RunsService(
                database=database, keys=organizations, journal=self.journal, changes=changes, settings=settings
            ),
            "secrets": self.secrets,
            "service_accounts": ServiceAccountsService(**known),
            "sessions": SessionsService(database=database, keys=organizations),
            "settings": settings,
            "versions": versions,
        }
        for name, service in services.items():
            setattr(self.app.state, name, service)

    async def serve(self, sockets: Sockets) -> None:
        """Serve everything but the API itself until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.journal_server.serve(sockets.journal))
            tasks.create_task(self.reconciler.run())
            tasks.create_task(self.key_use.run())
            await self.reconciler.restored()  # else the gateway's first routes would lack agents that it then denies
            tasks.create_task(self.platform.serve(sockets.control, sockets.supervisor))
            tasks.create_task(self.dispatcher.run())
            tasks.create_task(self.resealing.run())
            await self.platform.supervisor.peer()  # it has said who lives: their leases did not end with the server
            tasks.create_task(self.sweeper.run())

    async def close(self) -> None:
        """Finish what is queued; called when nothing is served any more."""
        with contextlib.suppress(Unavailable):  # keys then show an older use
            await self.key_use.write()
        await self.database.close()
        for spans in (self._spans, self._agent_spans):
            if spans is not None:
                await asyncio.to_thread(spans.shutdown)

    async def _tell_gateway(self) -> None:
        self._push_credentials()
        await self.platform.gateway.told()

    def _push_credentials(self) -> None:
        self.platform.set_credentials([_for_gateway(one) for one in self.directory.credentials.all()])

    async def _supervisor(self) -> Peer:
        return await self.platform.supervisor.peer()

    def _callbacks(self, changes: Changes) -> Callbacks:
        return Callbacks(
            submit_run=self._submit_run,
            run_result=self._run_result,
            credentials=self._credentials,
            instance_lost=lambda instance, reason: self.journal.instances_lost([instance], reason),
            instances_living=self.journal.instances_alive,
            renew_leases=self.journal.renew,
            changed=lambda organization, agent: changes.publish(agent_topic(organization, agent)),
            credentials_used=self.directory.credentials.used,
        )

    async def _submit_run(self, message: Message) -> Message:
        """`run.submit`: see docs/internals.md."""
        fields = message.fields
        admission = {name: fields[name] for name in ADMISSION if name in fields}
        if "key" in admission:
            admission["fingerprint"] = fingerprint(admission["request"], message.body)
        return await self.journal.submit(
            fields["organization"], fields["agent"], fields["revision"], cast("Admission", admission), message.body
        )

    async def _run_result(self, message: Message) -> Message:
        """`run.result`: see docs/internals.md."""
        fields = message.fields
        return await self.journal.result(
            fields["organization"],
            run=fields["run"],
            agent=fields["agent"],
            key=fields.get("key"),
            wait=float(fields.get("wait") or 0),
        )

    async def _credentials(self, message: Message) -> Message:
        """`instance.credentials`: what an instance that is being started may know."""
        fields = message.fields
        organization = fields["organization"]
        values = await self.secrets.values(organization, list(fields["secrets"]))
        identity = Identity(organization, fields["agent"], fields["revision"], fields["instance"])
        token, expires = self._tokens.mint(identity)
        return Message({"journal_token": token, "expires": expires, "secrets": values})


def _for_gateway(credential: Credential) -> dict[str, object]:
    """A credential as the gateway knows it."""
    return {
        "digest": credential.digest,
        "organization": credential.organization,
        "permissions": sorted(credential.permissions),
        "agents": sorted(credential.invocable),
        "expires": credential.expires_at and credential.expires_at.timestamp(),
        "name": credential.name,
    }


def _key_values(settings: Settings) -> KeyValues | None:
    """Where secrets may refer to; None if there is no Vault."""
    vault = settings.vault
    return None if vault.address is None else KeyValues(Vault(vault), vault)


def _instance_settings(settings: Settings) -> dict[str, object]:
    """What every instance is told, besides what its manifest says: which share of its runs is traced."""
    telemetry = settings.telemetry
    if not telemetry.otlp_endpoint:
        return {}
    return {"trace_sample_ratio": telemetry.trace_sample_ratio}
