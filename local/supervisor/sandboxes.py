"""Everything that runs user code on this machine is started here: zygotes, instances forked from them, builds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from domain.clock import Clock
from domain.home import Home
from local.environments.direct import DirectSandbox
from local.sandbox.confinement import Confinement
from local.sandbox.device import Devices
from local.sandbox.protections import USER_MODE_NETWORK, in_force, missing_between_organizations, protections
from local.sandbox.spec import Bind, SandboxSpec
from local.sandbox.uids import OrganizationUids
from local.sandbox.zygote import ForkedInstance, Origin, Zygote
from local.supervisor.egress import EgressOffers
from local.supervisor.user_networks import UserNetworks
from orchestrator_runtime.contract.errors import BadInput, Forbidden, Unavailable
from orchestrator_runtime.contract.instance import JOURNAL_SOCKET, InstanceStart
from orchestrator_runtime.contract.wire import Peer

logger = logging.getLogger("supervisor.sandboxes")

UNUSED_AFTER = 1800.0  # seconds without a fork after which a zygote without instances is evicted
EVICTION_INTERVAL = 60.0


class Place(NamedTuple):
    """What a zygote is for: instances of one framework in one environment of one organization."""

    organization: str
    environment: str  # lock digest
    framework: str


@dataclass(slots=True)
class Warm:
    """A zygote that is starting or ready, when it was used last (an instance began or ended), and how many live."""

    zygote: asyncio.Task[Zygote]
    used_at: float
    instances: int = 0


class Sandboxes:
    """The zygotes of this machine, and the builds that run on it.

    `index_hosts` may be reached by builds wherever their addresses are; `server`: see `Origin`.
    """

    def __init__(
        self,
        home: Home,
        *,
        egress: EgressOffers,
        clock: Clock,
        index_hosts: frozenset[str] = frozenset(),
        server: str | None = None,
    ) -> None:
        self._home = home
        self._index_hosts = index_hosts
        self._server = server
        self._egress = egress
        self._clock = clock
        self._confinement = Confinement()
        self._uids = OrganizationUids(home.root / "uids.json")
        self._direct = DirectSandbox(
            confinement=self._confinement, uid_of=self._uids.of, offer_egress=self._offer_build_egress
        )
        self._devices = Devices()
        self._networks = UserNetworks(home.networks, confinement=self._confinement, egress=egress)
        self._warm: dict[Place, Warm] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._builds: dict[tuple[Peer, str], asyncio.Task[int]] = {}
        self._build_count = 0
        self._protections: Mapping[str, str] | None = None
        self._organizations: set[str] = set()

    def protections(self) -> Mapping[str, str]:
        """What holds sandboxes here: protection -> in force, or missing and why. Tried once: it costs processes."""
        if self._protections is None:
            self._protections = protections(self._confinement.groups)
        return self._protections

    async def warm(self, organization: str, environment: Mapping[str, Any], framework: str) -> None:
        """Make a zygote ready to fork."""
        await self._zygote(Place(organization, str(environment["digest"]), framework), environment)

    async def fork(
        self,
        start: InstanceStart,
        *,
        environment: Mapping[str, Any],
        source: str,
        listen: int,
        control: int,
        stdout: int,
        stderr: int,
    ) -> ForkedInstance:
        """Fork an instance; starts its zygote first if there is none. Raises `Problem`."""
        place = Place(start.organization, str(environment["digest"]), start.framework)
        while True:
            warm = await self._zygote(place, environment)
            zygote = warm.zygote.result()
            warm.instances += 1
            try:
                forked = await zygote.fork(
                    start,
                    listen=listen,
                    control=control,
                    source=source,
                    stdout=stdout,
                    stderr=stderr,
                    devices=self._devices if in_force(self.protections(), USER_MODE_NETWORK) else None,
                )
            except BaseException as error:
                warm.instances -= 1
                if not isinstance(error, Unavailable) or error.code != "zygote_gone":
                    raise
                self._forget(place, zygote)  # it has just died: the next one forks this instance
            else:
                if forked.device is not None:
                    uid = self._uids.of(start.organization)
                    self._networks.begin(start.instance, start.organization, uid=uid, device=forked.device)
                return forked

    def ended(self, start: InstanceStart, environment: Mapping[str, Any]) -> None:
        """An instance has gone."""
        self._networks.end(start.instance)
        warm = self._warm.get(Place(start.organization, str(environment["digest"]), start.framework))
        if warm is not None:
            warm.instances = max(0, warm.instances - 1)
            warm.used_at = self._clock.monotonic()

    async def run(self, peer: Peer, fields: Mapping[str, Any]) -> int:
        """`sandbox.run`: run a build's program to its end; what it prints goes to the peer as `sandbox.output`."""
        try:
            run, spec = str(fields["run"]), SandboxSpec.from_fields(fields["spec"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"sandbox.run lacks or garbles {error}", code="bad_request") from error

        self._admit(spec.organization)

        def output(data: bytes) -> None:
            peer.notify("sandbox.output", {"run": run}, data)

        building = asyncio.create_task(self._direct.run(spec, output=output))
        self._builds[(peer, run)] = building
        try:
            return await building
        finally:
            building.cancel()
            del self._builds[(peer, run)]

    def cancel_build(self, peer: Peer, run: str) -> None:
        """`sandbox.kill`: nobody wants the result any more."""
        building = self._builds.get((peer, run))
        if building is not None:
            building.cancel()

    async def keep(self) -> None:
        """Watch over memory, and evict zygotes that were not used for long, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._confinement.run())
            tasks.create_task(self._evict_forever())

    def evict(self) -> None:
        """End the zygotes that have no instances and had none for `UNUSED_AFTER` seconds."""
        for warm in self._warm.values():
            unused = self._clock.monotonic() - warm.used_at > UNUSED_AFTER
            if unused and not warm.instances and warm.zygote.done():
                warm.zygote.result().kill()

    async def stop(self) -> None:
        """End every zygote, build and user-mode network."""
        await self._networks.stop()
        for building in self._builds.values():
            building.cancel()
        for warm in list(self._warm.values()):
            if warm.zygote.done() and warm.zygote.exception() is None:
                warm.zygote.result().kill()
                await warm.zygote.result().wait()
            else:
                warm.zygote.cancel()

    async def _zygote(self, place: Place, environment: Mapping[str, Any]) -> Warm:
        """The one for this place, once it is ready."""
        warm = self._warm.get(place)
        if warm is None:
            self._admit(place.organization)
            starting = asyncio.create_task(self._start(place, environment))
            warm = self._warm[place] = Warm(starting, self._clock.monotonic())
        warm.used_at = self._clock.monotonic()
        await asyncio.shield(warm.zygote)
        return warm

    def _admit(self, organization: str) -> None:
        """Refuse a second organization where one could read or harm another. Raises `Forbidden`."""
        missing = missing_between_organizations(self.protections())
        if missing and self._organizations - {organization}:
            raise Forbidden(
                f"This machine cannot keep organizations apart; missing: {', '.join(missing)}",
                code="organizations_not_isolated",
                hint="Start Orchestrator as root; `orchestrator describe` says which protections are in force.",
            )
        self._organizations.add(organization)

    async def _start(self, place: Place, environment: Mapping[str, Any]) -> Zygote:
        origin = Origin(
            organization=place.organization,
            uid=self._uids.of(place.organization),
            environment=str(environment["path"]),
            python=str(environment["python"]),
            preload=(place.framework,),
            binds=(Bind(str(self._home.journal_socket), JOURNAL_SOCKET),),
            server=self._server,
        )
        try:
            zygote = await Zygote.start(origin, confinement=self._confinement)
        except BaseException:
            del self._warm[place]  # the next one who needs it tries again
            raise
        logger.info("zygote ready", extra={"environment": place.environment, **zygote.ready})
        watching = asyncio.create_task(self._forget_when_gone(place, zygote))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        return zygote

    async def _forget_when_gone(self, place: Place, zygote: Zygote) -> None:
        ending = await zygote.wait()
        self._forget(place, zygote)
        logger.info("zygote gone", extra={"environment": place.environment, "code": ending.code})

    def _forget(self, place: Place, zygote: Zygote) -> None:
        """Unless another one has taken its place already."""
        warm = self._warm.get(place)
        if warm is not None and warm.zygote.done() and warm.zygote.result() is zygote:
            del self._warm[place]

    async def _evict_forever(self) -> None:
        while True:
            await asyncio.sleep(EVICTION_INTERVAL)
            self.evict()

    @contextlib.asynccontextmanager
    async def _offer_build_egress(self, spec: SandboxSpec, listening: socket.socket) -> AsyncIterator[None]:
        self._build_count += 1
        name = f"build-{self._build_count}"
        self._egress.offer(
            name,
            organization=spec.organization,
            network="internet",
            listening=listening.detach(),
            trusted=self._index_hosts,
        )
        try:
            yield
        finally:
            self._egress.withdraw(name)
