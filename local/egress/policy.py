"""What an instance may reach. Pure: names are resolved by the caller, who connects to an address that was checked here.

Ranges are listed one by one. `ipaddress.is_private` and `is_global` are not asked: what they answer changes between
versions of Python, and they count documentation ranges as private, which on some networks carry real services.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from orchestrator_runtime.contract.errors import Forbidden

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = str | tuple[str, ...]
"""`internet`, `none`, or the hosts that may be reached."""

METADATA = "a cloud's metadata service"
REFUSED_4 = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a carrier's private network"),
        ("127.0.0.0/8", "the loopback of this machine"),
        ("168.63.129.16/32", METADATA),
        ("169.254.0.0/16", "a link-local or metadata address"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "a reserved or metadata address"),
        ("192.168.0.0/16", "a private network"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
REFUSED_6 = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("::/128", "this host"),
        ("::1/128", "the loopback of this machine"),
        ("64:ff9b:1::/48", "a private translation prefix"),
        ("2001::/32", "a Teredo tunnel"),
        ("fc00::/7", "a private network"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private network"),
        ("ff00::/8", "a multicast address"),
    )
)
# IPv6 networks that carry an IPv4 address, and by how many bits it is shifted.
EMBEDDING = (
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated (SIIT)
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
    (IPv6Network("::/96"), 0),  # compatible
)
MASK_4 = 0xFFFFFFFF


def why_refused(address: Address) -> str | None:
    """What is wrong with this address, or None if it is on the internet."""
    if isinstance(address, IPv4Address):
        return next((reason for network, reason in REFUSED_4 if address in network), None)
    reason = next((reason for network, reason in REFUSED_6 if address in network), None)
    if reason is not None:
        return reason
    for network, shift in EMBEDDING:
        if address in network:
            return why_refused(IPv4Address(int(address) >> shift & MASK_4))
    return None


def literal(host: str) -> Address | None:
    """The address that `host` is written as, in every form a resolver understands (decimal, octal, hexadecimal)."""
    try:
        return IPv6Address(host.partition("%")[0]) if ":" in host else IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):  # a name
        return None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the operator lets agents reach although it is private: a host or address, and a port."""

    host: str
    port: int


def parse_allowances(entries: Sequence[str]) -> frozenset[Allowance]:
    """Entries such as `127.0.0.1:8080`, `[::1]:8080` or `models.internal:443`. Raises `ValueError` naming a bad one."""
    allowances = set()
    for entry in entries:
        host, colon, port = entry.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise ValueError(f"{entry!r} is not host:port")
        allowances.add(Allowance(plain_name(host.strip("[]")), int(port)))
    return frozenset(allowances)


def plain_name(host: str) -> str:
    """One spelling for a name: lower case, without the final dot; an address in its canonical form."""
    name = host.lower().removesuffix(".")
    address = literal(name)
    return name if address is None else str(address)


def check_name(host: str, port: int, *, network: Network) -> None:
    """Refuse what the agent's manifest does not let it reach. Raises `Forbidden`."""
    if network == "internet":
        return
    if network == "none":
        raise _refused(host, port, "agent.yaml says `network: none`", hint="Set network in agent.yaml.")
    names = (network,) if isinstance(network, str) else network
    if not any(_matches(pattern, host, port) for pattern in names):
        reason = "agent.yaml does not list this host under `network`"
        raise _refused(host, port, reason, hint=f"Add {host} to network in agent.yaml.")


def _matches(pattern: str, host: str, port: int) -> bool:
    """`host`, `host:port` or `*.domain`, which does not mean the domain itself."""
    name, colon, only_port = pattern.rpartition(":")
    if colon and only_port.isdigit() and (":" not in name or name.startswith("[")):
        if int(only_port) != port:
            return False
        pattern = name
    pattern, host = plain_name(pattern.strip("[]")), plain_name(host)
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def check_addresses(
    host: str, port: int, addresses: Sequence[Address], *, allowed: frozenset[Allowance] = frozenset()
) -> None:
    """Refuse if any of the addresses is not on the internet, but for those that the operator allows.

    One bad address among good ones is refused too: it is how a name is made to point inside. Raises `Forbidden`.
    """
    if not addresses:
        raise _refused(host, port, "it has no address")
    if Allowance(plain_name(host), port) in allowed:
        return
    for address in addresses:
        reason = why_refused(address)
        if reason is not None and Allowance(str(address), port) not in allowed:
            raise _refused(
                host,
                port,
                f"{address} is {reason}",
                hint=f"The operator may allow it with ORCHESTRATOR_EGRESS_ALLOW={host}:{port}.",
            )


def _refused(host: str, port: int, reason: str, *, hint: str = "") -> Forbidden:
    return Forbidden(
        f"The connection to {host}:{port} is refused: {reason}",
        code="egress_refused",
        hint=hint,
        host=host,
        port=port,
        reason=reason,
    )
