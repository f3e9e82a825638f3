"""Token buckets, and what an address and a token are to the limits."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.gateway.addresses import limited_as, read_networks
from local.gateway.buckets import Buckets
from local.gateway.connections import Connections
from local.gateway.sign_ins import presented


def test_a_burst_is_let_through_and_then_one_at_a_time() -> None:
    buckets = Buckets(2.0, burst=3)
    assert [buckets.take("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.wait("a", 10.25) == 0.25
    assert buckets.take("a", 10.5) == 0.0
    assert buckets.take("a", 10.5) == 0.5


def test_every_key_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(1.0, burst=1)
    assert buckets.take("a", 0.0) == 0.0
    assert buckets.take("b", 0.0) == 0.0
    assert buckets.take("a", 0.0) == 1.0


def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    buckets = Buckets(1.0, burst=5)
    buckets.take("a", 0.0)
    buckets.take("b", 1.0)
    buckets.forget(1.5)
    assert len(buckets) == 1
    buckets.forget(2.5)
    assert len(buckets) == 0


@given(
    rate=st.sampled_from([0.1, 1.0, 8.0]),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_no_more_than_the_burst_and_what_the_rate_gave_is_ever_let_through(
    rate: float, burst: int, gaps: list[float]
) -> None:
    buckets, now, taken = Buckets(rate, burst=burst), 0.0, 0
    for gap in gaps:
        now += gap
        wait = buckets.take("a", now)
        taken += not wait
        assert wait <= 1 / rate + 1e-9
        assert taken <= burst + rate * now + 1e-6


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", None),
        ("::ffff:127.0.0.9", None),
        ("::1", None),
        ("unknown", None),
    ],
)
def test_a_caller_is_an_address_or_the_network_that_is_one_customer_s(peer: str, expected: str | None) -> None:
    assert limited_as(peer, read_networks("127.0.0.0/8 ::1")) == expected


def test_networks_are_separated_by_commas_or_spaces_and_there_may_be_none() -> None:
    assert [str(network) for network in read_networks("10.0.0.0/8, 192.0.2.1")] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert read_networks("none") == ()
    with pytest.raises(ValueError):
        read_networks("everywhere")


def test_connections_are_counted_by_address_and_all_together() -> None:
    connections = Connections(each=2, at_most=4)
    assert [connections.enter("a") for _ in range(3)] == [True, True, False]
    assert [connections.enter(None) for _ in range(3)] == [True, True, False]
    assert not connections.enter("b")
    connections.leave(None)
    assert connections.enter("b")
    connections.leave("a")
    assert connections.enter("a")


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        (None, None),
        (b"Bearer orc_abc", b"orc_abc"),
        (b"bearer  orc_abc ", b"orc_abc"),
        (b"Basic " + base64.b64encode(b"any:orc_abc"), b"orc_abc"),
        (b"Basic ?", b"?"),
        (b"Basic " + base64.b64encode(b"any:"), None),
        (b"Bearer a.b.c", None),
        (b"Bearer", None),
    ],
)
def test_a_token_that_can_be_guessed_is_a_bearer_s_or_a_browser_s(
    authorization: bytes | None, token: bytes | None
) -> None:
    assert presented(authorization) == token
