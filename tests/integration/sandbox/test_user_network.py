"""The user-mode network of instances that may reach the internet, in a world that tests/fakes/internet.py makes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.sandbox.datagrams import readable
from local.sandbox.protections import USER_MODE_NETWORK
from local.sandbox.watchdog import process_tree
from tests.fakes.internet import ALLOWED, GREETING, PORT, PRIVATE, PUBLIC, QUESTION
from tests.integration.sandbox import attempts
from tests.integration.sandbox.cells import PATIENCE, Cell, Keeper, Supervisor, keeper
from tests.integration.sandbox.test_escapes import refused

HELLO = GREETING.decode()
WORLD = "tests.fakes.internet"
ALLOW = (f"allowed.test:{PORT}", f"{ALLOWED}:{PORT}")
ROUTER, NAMESERVER, DEVICE = "10.0.2.2", "10.0.2.3", "tap0"
NOT_ON_THE_INTERNET = (*PRIVATE, "224.0.0.251", "255.255.255.255", "240.0.0.1")


@pytest.fixture(scope="module", params=["root", "user"])
def jail(request: pytest.FixtureRequest) -> Iterator[Keeper]:
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user, who cannot start a supervisor as root")
    with keeper(request.param, allow=ALLOW, world=WORLD) as running:
        yield running


@pytest.fixture(autouse=True)
def there(supervisor: Supervisor) -> None:
    """These tests are about what slirp4netns and /dev/net/tun make possible."""
    state = supervisor.protections[USER_MODE_NETWORK]
    if state != "in force":
        pytest.skip(state)


@pytest.fixture
async def cell(supervisor: Supervisor) -> Cell:
    """An instance that all attempts of this file share: none of them should leave a trace."""
    return await supervisor.shared()


def outside(jail: Keeper, attempt: str, *arguments: object) -> str:
    """The same attempt by a program of the host, in the world of these tests; only root can go there."""
    code = f"import {attempts.__name__} as attempts; print(attempts.{attempt}(*{arguments!r}))"
    argv = ["nsenter", "-t", str(jail.process.pid), "-n", sys.executable, "-c", code]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def slirps(jail: Keeper) -> list[int]:
    """The user-mode networks that run, by their programs' numbers."""
    found = []
    for pid in process_tree(jail.process.pid):
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except FileNotFoundError:  # it ended while we looked
            continue
        if name == "slirp4netns":
            found.append(pid)
    return found


async def ended(pidfd: int) -> None:
    async with asyncio.timeout(PATIENCE):
        await readable(pidfd)
    os.close(pidfd)


# what ignores the proxy


async def test_a_connection_without_the_proxy_reaches_the_internet(cell: Cell) -> None:
    assert await cell.attempt("connect", PUBLIC, PORT) == HELLO


async def test_a_datagram_reaches_the_internet_and_is_answered(cell: Cell) -> None:
    assert await cell.attempt("ask_by_datagram", PUBLIC, PORT) == HELLO


async def test_names_are_resolved_by_the_hosts_resolver(cell: Cell) -> None:
    assert await cell.attempt("resolve", "public.test") == PUBLIC
    assert await cell.attempt("connect", "public.test", PORT) == HELLO
    assert (await refused(cell, "resolve", "unknown.test")).error == "gaierror"


async def test_what_the_operator_allows_is_reached_without_the_proxy_too(cell: Cell) -> None:
    assert await cell.attempt("connect", ALLOWED, PORT) == HELLO
    assert (await refused(cell, "connect", ALLOWED, 53)).errno == errno.EHOSTUNREACH


# what nobody may reach


@pytest.mark.parametrize("address", PRIVATE)
async def test_an_address_that_is_not_on_the_internet_is_refused_at_once(
    cell: Cell, jail: Keeper, address: str
) -> None:
    if os.geteuid() == 0:
        assert outside(jail, "connect", address, PORT) == HELLO
        assert outside(jail, "ask_by_datagram", address, PORT) == HELLO
    assert (await refused(cell, "connect", address, PORT)).errno == errno.EHOSTUNREACH
    assert (await refused(cell, "ask_by_datagram", address, PORT)).errno == errno.EHOSTUNREACH


@pytest.mark.parametrize("name", ["inside.test", "metadata.test", "here.test"])
async def test_a_name_that_means_such_an_address_leads_nowhere(cell: Cell, name: str) -> None:
    assert await cell.attempt("resolve", name) != PUBLIC
    assert (await refused(cell, "connect", name, PORT)).errno in {errno.EHOSTUNREACH, errno.ECONNREFUSED}


@pytest.mark.parametrize("address", ["127.0.0.1", ROUTER, NAMESERVER])
async def test_the_hosts_loopback_is_behind_none_of_the_networks_own_addresses(cell: Cell, address: str) -> None:
    met = {errno.ECONNREFUSED} if address == "127.0.0.1" else {errno.EHOSTUNREACH}
    assert (await refused(cell, "connect", address, PORT)).errno in met
    assert (await refused(cell, "ask_by_datagram", address, PORT)).errno in met


async def test_naming_the_device_is_no_way_around(cell: Cell) -> None:
    """It passes routes by, so these must not be what protects."""
    places = (*NOT_ON_THE_INTERNET, ROUTER, NAMESERVER, PUBLIC)
    for address in places:
        assert await cell.attempt("send_by_device", address, PORT, DEVICE, f"to {address}.") == "sent"
    heard = await cell.attempt("ask_by_datagram", PUBLIC, PORT, QUESTION)  # leaves after them
    assert [address for address in places if f"to {address}." in heard] == [PUBLIC]


@pytest.mark.parametrize("address", [ROUTER, NAMESERVER])
async def test_nor_does_it_lead_to_the_hosts_loopback(cell: Cell, address: str) -> None:
    assert (await refused(cell, "connect_by_device", address, PORT, DEVICE)).errno == errno.EHOSTUNREACH
    assert await cell.attempt("connect_by_device", PUBLIC, PORT, DEVICE) == HELLO


@pytest.mark.parametrize(
    "what",
    [
        "add a route",
        "remove the route",
        "add an address",
        "add a neighbour",
        "take the device down",
        "remove the device",
    ],
)
async def test_the_network_cannot_be_changed_from_inside(cell: Cell, what: str) -> None:
    assert (await refused(cell, "change_network", what)).errno == errno.EPERM


async def test_the_other_end_of_the_device_cannot_be_taken(cell: Cell) -> None:
    assert (await refused(cell, "read_file", "/dev/net/tun")).errno == errno.ENOENT


# for whom there is one


@pytest.mark.parametrize("network", [["allowed.test"], "none"])
async def test_an_agent_that_names_its_hosts_or_none_has_no_such_network(
    supervisor: Supervisor, network: str | list[str]
) -> None:
    held = await supervisor.start("one", network=network)
    assert await held.attempt("devices") == ["lo"]
    assert (await refused(held, "connect", PUBLIC, PORT)).errno == errno.ENETUNREACH
    assert (await refused(held, "ask_by_datagram", PUBLIC, PORT)).errno == errno.ENETUNREACH
    assert (await refused(held, "resolve", "public.test")).error == "gaierror"


async def test_an_instance_that_uses_the_proxy_costs_no_process(supervisor: Supervisor, jail: Keeper) -> None:
    before = slirps(jail)
    polite = await supervisor.start("one")
    assert await polite.attempt("through_proxy", f"allowed.test:{PORT}") == HELLO
    assert slirps(jail) == before
    assert await polite.attempt("connect", PUBLIC, PORT) == HELLO
    assert len(slirps(jail)) == len(before) + 1


# the program that makes it


async def start_slirp(cell: Cell) -> int:
    """Make an instance use the network for the first time; the number of the program that this started."""
    jail = cell.supervisor.keeper
    before = slirps(jail)
    assert await cell.attempt("connect", PUBLIC, PORT) == HELLO
    (started,) = set(slirps(jail)) - set(before)
    return started


async def test_it_runs_without_privileges_outside_the_instances_limits(supervisor: Supervisor, jail: Keeper) -> None:
    user = await supervisor.start("one")
    slirp = Path(f"/proc/{await start_slirp(user)}")
    status = dict(line.split(":\t", 1) for line in (slirp / "status").read_text().splitlines() if ":\t" in line)
    uids = set(status["Uid"].split())
    assert uids == set(Path(f"/proc/{user.pid}/status").read_text().split("Uid:\t")[1].split("\n")[0].split())
    assert "0" not in uids
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    root = slirp / "root"
    assert not (root / jail.home.root.relative_to("/")).exists()
    if "control group" in supervisor.protections["memory limit"]:
        assert (slirp / "cgroup").read_text() != Path(f"/proc/{user.pid}/cgroup").read_text()


async def test_it_is_started_again_when_it_was_killed(supervisor: Supervisor) -> None:
    user = await supervisor.start("one")
    first = await start_slirp(user)
    pidfd = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    await ended(pidfd)
    assert await start_slirp(user) != first


async def test_it_ends_with_its_instance(supervisor: Supervisor) -> None:
    user = await supervisor.start("one")
    pidfd = os.pidfd_open(await start_slirp(user))
    await supervisor.peer.call("instance.stop", {"instance": user.id, "grace": 0})
    await ended(pidfd)


async def test_it_ends_with_the_zygote_of_its_instance(supervisor: Supervisor) -> None:
    user = await supervisor.start("one")
    pidfd = os.pidfd_open(await start_slirp(user))
    status = Path(f"/proc/{user.pid}/status").read_text()
    os.kill(int(status.split("PPid:\t")[1].split("\n")[0]), signal.SIGKILL)
    await ended(pidfd)


async def test_it_ends_when_the_supervisor_is_killed(jail: Keeper) -> None:
    with keeper(jail.mode, allow=ALLOW, world=WORLD) as other:
        async with other.connect() as supervisor:
            pidfd = os.pidfd_open(await start_slirp(await supervisor.start("one")))
            supervisor.cells.clear()
            other.process.kill()
            await ended(pidfd)
