"""Which frames of an instance may leave, and what it is told of the others."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from local.egress.packets import IPV4, Packet, read, refusal, why_not
from local.egress.policy import Allowance

TCP, UDP, ICMP = 6, 17, 1
OURS, ROUTERS = b"\x02agent", b"\x02route"
SYN, ACK = 0x02, 0x10


def create_frame(
    to: str = "203.0.113.10",
    *,
    protocol: int = TCP,
    port: int = 443,
    flags: int = SYN,
    fragment: int = 0,
    options: bytes = b"",
    kind: bytes = IPV4,
    version: int = 4,
) -> bytes:
    segment = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 0x50, flags, 0, 0, 0)
    head = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | (5 + len(options) // 4),
        0,
        20 + len(options) + len(segment),
        7,
        fragment,
        64,
        protocol,
        0,
        IPv4Address("10.0.2.100").packed,
        IPv4Address(to).packed,
    )
    return ROUTERS + OURS + kind + head + options + segment


def why(frame: bytes, allowed: frozenset[Allowance] = frozenset()) -> str | None:
    packet = read(frame)
    assert packet is not None
    return why_not(packet, allowed=allowed)


def test_a_packet_says_where_it_goes() -> None:
    assert read(create_frame(options=b"\x01" * 8)) == Packet(IPv4Address("203.0.113.10"), TCP, 443, True, True)


@pytest.mark.parametrize(
    ("frame", "opens"),
    [
        (create_frame(), True),
        (create_frame(flags=SYN | ACK), False),
        (create_frame(flags=ACK), False),
        (create_frame(protocol=UDP), False),
        (create_frame(fragment=100), False),
    ],
)
def test_only_the_first_segment_opens_a_connection(frame: bytes, opens: bool) -> None:
    packet = read(frame)
    assert packet is not None
    assert packet.opens == opens


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        create_frame()[:33],
        create_frame()[:38],
        create_frame(kind=b"\x86\xdd"),
        create_frame(kind=b"\x81\x00"),
        create_frame(version=6),
        create_frame(protocol=47),
        create_frame(options=b"\x01" * 8).replace(b"\x47", b"\x44", 1),
    ],
    ids=["empty", "no head", "no ports", "IPv6", "a VLAN", "a wrong version", "another protocol", "a head too short"],
)
def test_what_holds_no_packet_that_somebody_takes_is_none(frame: bytes) -> None:
    assert read(frame) is None


@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
def test_the_internet_may_be_reached(protocol: int) -> None:
    assert why(create_frame(protocol=protocol)) is None
    assert why(create_frame(protocol=protocol, fragment=0x2000)) is None
    assert why(create_frame(protocol=protocol, fragment=185)) is None


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "10.0.2.2",
        "10.0.2.255",
        "100.64.0.1",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "224.0.0.251",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
def test_what_the_proxy_refuses_is_refused(address: str, protocol: int) -> None:
    assert why(create_frame(address, protocol=protocol))
    assert why(create_frame(address, protocol=protocol, fragment=185))


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_the_name_server_gets_whole_questions_and_nothing_else(protocol: int) -> None:
    assert why(create_frame("10.0.2.3", protocol=protocol, port=53)) is None
    for frame in (
        create_frame("10.0.2.3", protocol=protocol, port=5432),
        create_frame("10.0.2.3", protocol=protocol, port=53, fragment=0x2000),
        create_frame("10.0.2.3", protocol=protocol, port=53, fragment=185),
        create_frame("10.0.2.3", protocol=ICMP, port=53),
    ):
        assert why(frame)


def test_the_operators_leave_is_for_an_address_and_a_port() -> None:
    allowed = frozenset({Allowance("10.1.2.3", 5432)})
    assert why(create_frame("10.1.2.3", port=5432), allowed) is None
    assert why(create_frame("10.1.2.3", port=22), allowed)
    assert why(create_frame("10.1.2.4", port=5432), allowed)
    assert why(create_frame("10.1.2.3", port=5432, fragment=185), allowed)  # of a fragment the port is not known


def test_a_refusal_is_a_well_formed_error_about_the_packet() -> None:
    frame = create_frame("10.1.2.3", options=b"\x01" * 4)
    told = refusal(frame)
    assert told[:14] == OURS + ROUTERS + IPV4
    head, message = told[14:34], told[34:]
    assert (IPv4Address(head[12:16]), IPv4Address(head[16:20])) == (IPv4Address("10.0.2.2"), IPv4Address("10.0.2.100"))
    assert int.from_bytes(head[2:4]) == len(told) - 14
    assert message[:2] == bytes([3, 13])
    assert message[8:] == frame[14 : 14 + 24 + 8]
    for part in (head, message):
        words = sum(struct.unpack(f"!{len(part) // 2}H", part))
        assert words % 0xFFFF == 0  # what a receiver checks
