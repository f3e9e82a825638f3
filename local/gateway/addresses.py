"""Addresses of callers as limits see them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

NO_NETWORK = "none"
HOST_BITS = 64  # of an IPv6 address belong to one caller, who may take any of them


def read_networks(text: str) -> tuple[Network, ...]:
    """Networks or addresses, separated by commas or spaces; `none` for none at all. Raises `ValueError`."""
    if text.strip() == NO_NETWORK:
        return ()
    return tuple(ip_network(word) for word in text.replace(",", " ").split())


def limited_as(peer: str, exempt: Sequence[Network]) -> str | None:
    """What the limits count this caller as: its address, or the network of an IPv6 address; None if it is exempt."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:  # no IP socket: nobody from outside
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in exempt):
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address) >> HOST_BITS << HOST_BITS, HOST_BITS)))
    return str(address)
