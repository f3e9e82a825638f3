"""The embedded platform between a supervisor and a gateway that come and go, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from domain.deployment import RevisionState
from domain.home import Home
from local.platform import LocalPlatform
from local.platform.log_files import read_log
from local.supervisor.sockets import listen_unix
from orchestrator_runtime.contract.errors import Problem, Unavailable
from orchestrator_runtime.contract.wire import Handler, Message, Peer
from tests.fakes.agents import create_desired, create_revision
from tests.fakes.gateway import FakeGateway
from tests.fakes.local_platform import Asked, callbacks

PATIENCE = 10.0  # seconds until a test that hangs fails


def info(instance: str, *, revision: str = "triage-00001") -> dict[str, Any]:
    return {
        "instance": instance,
        "organization": "o-1",
        "agent": revision.rpartition("-")[0],
        "revision": revision,
        "state": "ready",
        "started_at": 1.0,
        "pid": 7,
        "call_token": "secret",
        "socket": "/x",
    }


@dataclass(slots=True)
class FakeSupervisor:
    """supervisor.sock as the server sees it."""

    path: Path
    instances: list[dict[str, Any]] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        handlers: dict[str, Handler] = {"subscribe": self._subscribe}
        listening = listen_unix(self.path)
        self.server = await asyncio.get_running_loop().create_unix_server(lambda: Peer(handlers), sock=listening)

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
        for peer in self.peers:
            peer.close()
        self.peers.clear()

    def _subscribe(self, peer: Peer, message: Message) -> Message:
        assert message.fields["role"] == "server"
        self.peers.append(peer)
        return Message({"instances": self.instances, "protections": {"namespaces": "in force"}})


@dataclass(slots=True)
class World:
    platform: LocalPlatform
    supervisor: FakeSupervisor
    asked: Asked
    home: Home

    async def gateway(self) -> FakeGateway:
        return await FakeGateway.connect(self.home.control_socket)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        home = Home(Path(folder))
        home.make()
        asked = Asked()
        platform = LocalPlatform(
            home=home,
            callbacks=callbacks(asked),
            organization_name=lambda organization: "acme",
            first_organization="o-1",
            settings={"sampling": 1.0},
            log_interval=0.0,
        )
        supervisor = FakeSupervisor(home.supervisor_socket, [info("i-0")])
        await supervisor.start()
        serving = asyncio.create_task(platform.serve(listen_unix(home.control_socket), str(home.supervisor_socket)))
        await until(lambda: platform.supervisor.connected)
        yield World(platform, supervisor, asked, home)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        supervisor.stop()
        for _ in range(5):
            await asyncio.sleep(0)


# the supervisor


async def test_what_lives_when_it_connects_is_told_and_listed_without_secrets(world: World) -> None:
    assert world.asked.living == [["i-0"]]
    [listed] = world.platform.instances("o-1", "triage")
    assert listed == {"instance": "i-0", "revision": "triage-00001", "state": "ready", "started_at": 1.0, "pid": 7}


async def test_instances_come_and_go_and_who_loses_one_is_told(world: World) -> None:
    peer = world.supervisor.peers[0]
    peer.notify("instance.ready", info("i-1"))
    peer.notify("instance.exited", {**info("i-0"), "reason": "out_of_memory"})
    await until(lambda: bool(world.asked.lost))
    assert world.asked.lost == [("i-0", "out_of_memory")]
    assert [listed["instance"] for listed in world.platform.instances("o-1", "triage")] == ["i-1"]
    assert world.asked.changed == [("o-1", "triage")] * 2


async def test_leases_are_renewed_for_what_lives(world: World) -> None:
    world.supervisor.peers[0].notify("leases.renew", {"instances": ["i-0", "i-1"]})
    await until(lambda: bool(world.asked.renewed))
    assert world.asked.renewed == [["i-0", "i-1"]]


async def test_the_supervisor_asks_what_an_instance_may_know(world: World) -> None:
    reply = await world.supervisor.peers[0].call("instance.credentials", {"instance": "i-9", "secrets": ["KEY"]})
    assert (reply.fields["journal_token"], reply.fields["secrets"]) == ("token of i-9", {"KEY": "value"})


async def test_a_supervisor_that_comes_back_is_subscribed_to_again(world: World) -> None:
    world.supervisor.stop()
    await until(lambda: not world.platform.supervisor.connected)
    world.supervisor.instances = []
    await world.supervisor.start()
    await until(lambda: world.platform.supervisor.connected)
    assert world.asked.living == [["i-0"], []]
    assert list(world.platform.instances("o-1", "triage")) == []


# the gateway


async def test_a_gateway_gets_the_routes_when_it_says_hello_and_whenever_they_change(world: World) -> None:
    await world.platform.deploy(create_desired(create_revision(1)))
    world.platform.set_credentials([{"digest": "d", "organization": "o-1", "permissions": ["agents:invoke"]}])
    gateway = await world.gateway()
    routes = await gateway.routes()
    assert routes["triage"]["organization_name"] == "acme"
    start = routes["triage"]["revisions"]["triage-00001"]["start"]
    assert start["settings"] == {"sampling": 1.0}
    assert gateway.snapshots[-1]["credentials"][0]["digest"] == "d"
    await world.platform.remove("o-1", "triage")
    await gateway.next_push()
    assert await gateway.routes() == {}
    generations = [snapshot["generation"] for snapshot in gateway.snapshots]
    assert generations == sorted(set(generations))
    gateway.peer.close()


async def test_a_change_is_told_when_the_gateway_has_it_and_its_uses_are_passed_on(world: World) -> None:
    await world.platform.gateway.told()  # nobody is there: nobody is waited for
    gateway = await world.gateway()
    await gateway.routes()
    world.platform.set_credentials([{"digest": "d", "organization": "o-1", "permissions": []}])
    await world.platform.gateway.told()
    [applied] = gateway.applied
    assert gateway.snapshots[applied - 1]["credentials"][0]["digest"] == "d"
    assert gateway.snapshots[applied - 1]["first_organization"] == "o-1"
    gateway.peer.notify("credentials.used", {"digests": ["d"]})
    await until(lambda: world.asked.used == ["d"])
    gateway.peer.close()


async def test_what_the_gateway_observes_is_described_with_the_protections(world: World) -> None:
    await world.platform.deploy(create_desired(create_revision(1)))
    gateway = await world.gateway()
    status = {"organization": "o-1", "revision": "triage-00001", "state": "ready"}
    gateway.peer.notify("revision.status", {**status, "ready_instances": 3, "desired_instances": 4})
    await until(lambda: bool(world.asked.changed))
    [described] = await world.platform.describe("o-1", "triage")
    assert (described.state, described.ready_instances, described.desired_instances) == (RevisionState.READY, 3, 4)
    assert described.protections == {"namespaces": "in force"}
    gateway.peer.close()


async def test_a_status_of_nothing_known_or_of_no_sense_changes_nothing(world: World) -> None:
    gateway = await world.gateway()
    await gateway.peer.call("revision.status", {"organization": "o-1", "revision": "gone-00001", "state": "ready"})
    for nonsense in ({}, {"organization": "o-1", "revision": "x-1", "state": "odd"}):
        with pytest.raises(Problem) as caught:
            await gateway.peer.call("revision.status", nonsense)
        assert caught.value.code == "bad_request"
    assert world.asked.changed == []
    gateway.peer.close()


async def test_runs_are_submitted_asked_for_and_dispatched_through_it(world: World) -> None:
    gateway = await world.gateway()
    assert (await gateway.peer.call("run.submit", {"run": "r"}, b"input")).fields["run"] == "r-1"
    assert (await gateway.peer.call("run.result", {"run": "r"})).fields == {"found": False}
    assert world.asked.submitted[0].body == b"input"
    assert (await world.platform.dispatch({"run": "r"}, b"body")).fields["status"] == 200
    assert gateway.dispatched[0].body == b"body"
    assert await world.platform.gateway_metrics() == "gateway_requests_total 3\n"
    gateway.peer.close()


async def test_a_question_waits_for_the_gateway_that_is_being_started(world: World) -> None:
    asking = asyncio.ensure_future(world.platform.dispatch({"run": "r"}, b""))
    await asyncio.sleep(0)
    assert not world.platform.gateway.connected
    gateway = await world.gateway()
    assert (await asyncio.wait_for(asking, PATIENCE)).fields["status"] == 200
    gateway.peer.close()


async def test_a_dispatch_is_not_repeated_when_the_gateway_dies(world: World) -> None:
    gateway = await world.gateway()
    came, never = asyncio.Event(), asyncio.get_running_loop().create_future()

    def take(peer: Peer, message: Message) -> asyncio.Future[Message]:
        came.set()
        return never

    gateway.peer._handlers["run.dispatch"] = take
    asking = asyncio.ensure_future(world.platform.dispatch({"run": "r"}, b""))
    await asyncio.wait_for(came.wait(), PATIENCE)
    gateway.peer.close()
    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(asking, PATIENCE)
    assert caught.value.code == "connection_lost"
    never.cancel()


# logs


async def test_following_a_log_survives_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.with_name("a.log.1").write_bytes(b"zero\n")
    path.write_bytes(b"one\n")
    lines = read_log(path, follow=True, interval=0.0)
    assert [await anext(lines) for _ in range(2)] == [b"zero\n", b"one\n"]
    with path.open("ab") as file:
        file.write(b"two\n")
    path.replace(path.with_name("a.log.1"))
    path.write_bytes(b"three\n")
    assert [await anext(lines) for _ in range(2)] == [b"two\n", b"three\n"]
    await lines.aclose()  # type: ignore[attr-defined]
