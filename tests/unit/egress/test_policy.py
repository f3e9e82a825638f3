"""What may be reached: addresses in every spelling, and the hosts of a manifest."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from local.egress.policy import check_addresses, check_name, literal, parse_allowances, plain_name, why_refused
from orchestrator_runtime.contract.errors import Forbidden


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.255.255.255",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "224.0.0.251",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_on_the_internet_is_refused_with_the_reason(address: str) -> None:
    assert why_refused(ip_address(address))
    with pytest.raises(Forbidden) as caught:
        check_addresses("name.test", 443, [ip_address("93.184.216.34"), ip_address(address)])
    assert caught.value.code == "egress_refused"


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "2002:5db8::"]
)
def test_an_address_on_the_internet_is_not(address: str) -> None:
    assert why_refused(ip_address(address)) is None
    check_addresses("name.test", 443, [ip_address(address)])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
def test_every_spelling_of_an_address_is_that_address(host: str) -> None:
    assert literal(host) == ip_address("127.0.0.1")


def test_a_zone_does_not_hide_an_address_and_a_name_is_none() -> None:
    assert literal("fe80::1%eth0") == ip_address("fe80::1")
    assert literal("example.com") is None


def test_a_name_without_addresses_leads_nowhere() -> None:
    with pytest.raises(Forbidden):
        check_addresses("nothing.test", 443, [])


def test_what_the_operator_allows_may_be_private_on_that_port_only() -> None:
    allowed = parse_allowances(["127.0.0.1:8080", "[::1]:8080", "Models.Internal.:443"])
    check_addresses("127.1", 8080, [ip_address("127.0.0.1")], allowed=allowed)
    check_addresses("models.internal", 443, [ip_address("10.0.0.5")], allowed=allowed)
    for host, port, address in (
        ("127.0.0.1", 8081, "127.0.0.1"),
        ("models.internal", 80, "10.0.0.5"),
        ("other.internal", 443, "10.0.0.5"),
    ):
        with pytest.raises(Forbidden):
            check_addresses(host, port, [ip_address(address)], allowed=allowed)


@pytest.mark.parametrize("entry", ["8080", "host", "host:", ":80", "host:http"])
def test_an_allowance_that_is_no_host_and_port_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is not host:port") as caught:
        parse_allowances([entry])
    assert repr(entry) in str(caught.value)


def test_names_have_one_spelling() -> None:
    assert plain_name("API.Example.com.") == "api.example.com"
    assert plain_name("0x7f.1") == "127.0.0.1"


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        (("api.example.com",), "API.example.com.", 443),
        (("*.example.com",), "a.b.example.com", 80),
        (("example.com:443",), "example.com", 443),
        (("[2606:2800:220:1::1]:443",), "2606:2800:220:1::1", 443),
        (("2606:2800:220:1::1",), "2606:2800:220:1::1", 80),
    ],
)
def test_a_host_that_the_manifest_lists_may_be_reached(hosts: tuple[str, ...], host: str, port: int) -> None:
    check_name(host, port, network=hosts)


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        (("example.com",), "www.example.com", 443),
        (("*.example.com",), "example.com", 443),
        (("*.example.com",), "badexample.com", 443),
        (("example.com:443",), "example.com", 80),
        (("example.com",), "example.com.evil.test", 443),
        ((), "example.com", 443),
    ],
)
def test_any_other_host_may_not(hosts: tuple[str, ...], host: str, port: int) -> None:
    with pytest.raises(Forbidden) as caught:
        check_name(host, port, network=hosts)
    assert host in caught.value.detail


def test_a_manifest_without_network_reaches_nothing() -> None:
    check_name("example.com", 443, network="internet")
    with pytest.raises(Forbidden, match="network: none"):
        check_name("example.com", 443, network="none")
