"""Frames between an instance's device and its slirp4netns. Both are sockets here that carry one frame at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from local.egress.relay import Relay
from local.egress.traffic import Traffic
from local.gateway.metrics import Page
from tests.integration.egress.test_offers import create_offers, gateway
from tests.unit.egress.test_packets import create_frame

PATIENCE = 10.0
QUESTION = b"\xff" * 6 + b"\x02agent" + b"\x08\x06" + bytes(28)  # an ARP request


def create_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


async def taken(end: socket.socket) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.get_running_loop().sock_recv(end, 65536)


@dataclass(slots=True)
class Between:
    """A relay, and the two that it serves."""

    relay: Relay
    instance: socket.socket
    slirp: socket.socket
    traffic: Traffic


@contextlib.asynccontextmanager
async def create_relay() -> AsyncIterator[Between]:
    instance, device = create_pair()
    slirp, frames = create_pair()
    traffic = Traffic()
    relay = Relay("i-1", device.detach(), frames, traffic=traffic, allowed=frozenset())
    with instance, slirp:
        yield Between(relay, instance, slirp, traffic)
        relay.close()


async def test_frames_pass_in_both_directions_and_are_counted() -> None:
    async with create_relay() as between:
        opening, answer = create_frame(), create_frame("10.0.2.100")
        for frame in (QUESTION, opening):
            between.instance.send(frame)
            assert await taken(between.slirp) == frame
        between.slirp.send(answer)
        assert await taken(between.instance) == answer
        assert between.traffic == Traffic(sent=len(opening), received=len(answer), connections=1, refused=0)


async def test_what_may_not_leave_is_answered_and_counted() -> None:
    async with create_relay() as between:
        for _ in range(2):
            between.instance.send(create_frame("10.1.2.3"))
            assert (await taken(between.instance))[34:36] == bytes([3, 13])
        between.instance.send(create_frame())
        assert await taken(between.slirp) == create_frame()  # and nothing before it
        assert (between.traffic.refused, between.traffic.connections) == (2, 1)


async def test_what_nobody_takes_is_dropped() -> None:
    async with create_relay() as between:
        for frame in (create_frame(kind=b"\x86\xdd"), create_frame(protocol=47), b"x"):
            between.instance.send(frame)
        between.instance.send(create_frame())
        assert await taken(between.slirp) == create_frame()
        assert between.traffic == Traffic(sent=len(create_frame()), connections=1)


async def test_no_frame_is_lost_while_slirp_is_behind() -> None:
    async with create_relay() as between:
        loop = asyncio.get_running_loop()
        frames = [create_frame(port=number) + bytes(4000) for number in range(1, 500)]

        async def send() -> None:
            for frame in frames:
                await loop.sock_sendall(between.instance, frame)

        sending = asyncio.create_task(send())
        assert [await taken(between.slirp) for _ in frames] == frames
        await sending


async def test_it_ends_when_slirp_does_and_leaves_the_instance_alone() -> None:
    async with create_relay() as between:
        between.slirp.close()
        assert await taken(between.instance) == b""  # the other end was closed
        between.relay.close()  # twice is once


async def test_a_device_is_served_again_by_a_new_gateway_and_until_its_instance_has_gone() -> None:
    async with create_offers() as offers:
        instance, device = create_pair()
        slirp, frames = create_pair()
        with instance, slirp:
            listening = socket.create_server(("127.0.0.1", 0)).detach()
            async with gateway(offers) as first:
                offers.offer("i-1", organization="org-1", network="internet", listening=listening)
                offers.offer_device("i-1", organization="org-1", device=device.detach(), slirp=frames.detach())
                instance.send(create_frame())
                assert await taken(slirp) == create_frame()
                page = Page()
                first.metrics(page)
                assert f'orchestrator_egress_sent_total{{organization="org-1"}} {len(create_frame())}' in page.text()
            async with gateway(offers) as second:
                offers.offer_again()
                instance.send(create_frame())
                assert await taken(slirp) == create_frame()
                offers.withdraw("i-1")
                assert await taken(slirp) == b""
                assert not second._served


async def test_another_slirp_takes_the_place_of_one_that_ended() -> None:
    async with create_offers() as offers, gateway(offers) as egress:
        instance, device = create_pair()
        with instance:
            for _ in range(2):
                slirp, frames = create_pair()
                with slirp:
                    offers.offer_device(
                        "i-1", organization="org-1", device=device.dup().detach(), slirp=frames.detach()
                    )
                    instance.send(create_frame())
                    assert await taken(slirp) == create_frame()
                offers.withdraw_device("i-1")
            device.close()
            assert egress.traffic("i-1").connections == 2
            offers.withdraw("i-1")
            egress.close("i-1")
