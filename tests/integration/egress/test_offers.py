"""Listening sockets on their way from the supervisor to the gateway, and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

from local.egress.service import Egress, start_egress
from local.supervisor.egress import EgressOffers

PATIENCE = 10.0


@contextlib.asynccontextmanager
async def create_offers() -> AsyncIterator[EgressOffers]:
    offers = EgressOffers()
    try:
        yield offers
    finally:
        asyncio.get_running_loop().remove_writer(offers._ours)
        offers._ours.close()
        offers.theirs.close()


def listening() -> tuple[int, int]:
    """A descriptor that the offer will own, and its port."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    return server.detach(), port


@contextlib.asynccontextmanager
async def gateway(offers: EgressOffers) -> AsyncIterator[Egress]:
    """As a process that inherits the pair."""
    egress = Egress(allowed=frozenset())
    with offers.theirs.dup() as pair:
        egress.listen_for_sockets(pair)
        try:
            yield egress
        finally:
            asyncio.get_running_loop().remove_reader(pair)
            for name in list(egress._served):
                egress.close(name)


async def answered(port: int) -> bool:
    """Whether a proxy serves at this port; waits until it is so or can be no more."""
    async with asyncio.timeout(PATIENCE):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return False
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer.startswith(b"HTTP/1.1 400 ")


async def served(egress: Egress, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while sum(each.server is not None for each in egress._served.values()) != count:
            await asyncio.sleep(0)


async def test_an_offered_socket_is_served_until_it_is_withdrawn() -> None:
    async with create_offers() as offers, gateway(offers) as egress:
        descriptor, port = listening()
        offers.offer("build-1", organization="org-1", network="internet", listening=descriptor)
        await served(egress, 1)
        assert await answered(port)
        offers.withdraw("build-1")
        await served(egress, 0)
        assert not await answered(port)
        offers.withdraw("build-1")  # twice is once


async def test_a_build_reaches_the_operators_index_wherever_its_address_is() -> None:
    async with create_offers() as offers, gateway(offers) as egress:
        with socket.create_server(("127.0.0.1", 0)) as index:
            port = index.getsockname()[1]
            for name, trusted in (("build-1", ["LocalHost"]), ("i-1", [])):
                descriptor, way_out = listening()
                offers.offer(name, organization="org-1", network="internet", listening=descriptor, trusted=trusted)
                await served(egress, 1)
                reader, writer = await asyncio.open_connection("127.0.0.1", way_out)
                writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                assert answer.startswith(b"HTTP/1.1 200 " if trusted else b"HTTP/1.1 403 ")
                writer.close()
                await writer.wait_closed()
                await ended(egress, name)
                offers.withdraw(name)
                await served(egress, 0)


async def ended(egress: Egress, name: str) -> None:
    """Wait until no connection of this sandbox is open."""
    tasks = list(egress._served[name].connections)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_new_gateway_gets_every_socket_again() -> None:
    async with create_offers() as offers:
        descriptor, port = listening()
        async with gateway(offers) as first:
            offers.offer("i-1", organization="org-1", network=["example.com"], listening=descriptor)
            await served(first, 1)
        async with gateway(offers) as second:
            offers.offer_again()
            await served(second, 1)
            assert await answered(port)
            offers.withdraw("i-1")
            await served(second, 0)


async def test_more_sockets_than_the_pair_holds_arrive_all_the_same() -> None:
    async with create_offers() as offers:
        for number in range(600):
            descriptor, _ = listening()
            offers.offer(f"i-{number}", organization="org-1", network="internet", listening=descriptor)
        offers.withdraw("i-3")
        offers.withdraw("i-599")
        async with gateway(offers) as egress:
            await served(egress, 598)
            assert "i-599" not in egress._served
            for number in range(600):
                offers.withdraw(f"i-{number}")
            await served(egress, 0)


async def test_a_datagram_that_says_nothing_useful_is_dropped_with_its_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    egress = Egress(allowed=frozenset())
    with ours, theirs:
        egress.listen_for_sockets(theirs)
        descriptor, port = listening()
        socket.send_fds(ours, [b"not json"], [descriptor])
        os.close(descriptor)
        second, _ = listening()
        socket.send_fds(ours, [b'{"instance": "i", "organization": "o"}'], [second])
        os.close(second)
        await served(egress, 1)
        assert not await answered(port)
        egress.close("i")
        asyncio.get_running_loop().remove_reader(theirs)


def test_an_allowance_that_cannot_be_read_stops_the_start() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="is not host:port"):
        start_egress(theirs.fileno(), allow=["nonsense"])
