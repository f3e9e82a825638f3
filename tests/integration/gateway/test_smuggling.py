"""Each case of the corpus against the gateway, and what it lets through against nginx: what that refuses, we refuse."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from tests.fakes.instance_server import FakeInstance
from tests.fakes.nginx import Nginx, nginx_server
from tests.integration.gateway.corpus import CORPUS, END, GET, GOOD, Case, post
from tests.integration.gateway.world import World, create_world

NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
MUTATIONS = 400
SPECIAL = b"\r\n\t\0 :;,%/.\\\"'+-_0159aAxX\x0b\x7f\x80\xff"


@pytest.fixture(scope="module")
def nginx() -> Iterator[Nginx]:
    with nginx_server() as served:
        yield served


async def statuses(world: World, data: bytes) -> tuple[int, ...]:
    """Of the answers that these bytes get, up to the end of the connection."""
    call = await world.send(data)
    call.writer.write_eof()
    came, found = await call.ended(), []
    while came:
        head, _, rest = came.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        found.append(int(head.split(b" ")[1]))
        came = rest[int(length[1]) if length else 0 :]
    return tuple(found)


async def warm(world: World) -> None:
    """Have an instance: whoever closes its sending half while it waits for one has gone."""
    await world.call("/agents/echo")
    (await world.started()).received.clear()


def check_what_arrived(world: World, *, requests: int) -> None:
    """Each request that an instance got has one meaning, and is none that was hidden."""
    instances: list[FakeInstance] = list(world.supervisor.instances.values())
    received = [one for instance in instances for one in instance.received]
    assert len(received) == requests
    for one in received:
        assert "hidden" not in one.target
        assert one.target.startswith("/")
        names = list(one.headers)
        assert all(NAME.fullmatch(name) for name in names)
        assert all(VALUE.fullmatch(value) for value in one.headers.values())
        assert len({"content-length", "transfer-encoding"} & set(names)) <= 1
        assert not {"upgrade", "http2-settings", "expect", "te", "trailer"} & set(names)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
async def test_a_request_is_refused_or_goes_on_with_one_meaning(case: Case) -> None:
    async with create_world() as world:
        await warm(world)
        assert await statuses(world, case.data) == case.answers
        check_what_arrived(world, requests=case.answers.count(200))


@pytest.mark.parametrize("case", [case for case in GOOD if case.answers[0] == 200], ids=lambda case: case.name)
def test_what_is_let_through_is_let_through_by_nginx(case: Case, nginx: Nginx) -> None:
    assert not nginx.refuses(case.data)


def test_nginx_refuses_what_has_two_lengths(nginx: Nginx) -> None:
    """So that the comparison compares."""
    assert nginx.refuses(next(case for case in CORPUS if case.name == "length and chunks").data)


async def test_what_nginx_refuses_of_many_spoilt_requests_is_refused(nginx: Nginx) -> None:
    """Bytes inserted, changed and left out at random places, the same ones in every run."""
    chance = random.Random(5)
    whole = [
        GET + b"x: y\r\n" + END,
        post(b"content-length: 5\r\n" + END[:-2], b"hello"),
        post(b"transfer-encoding: chunked\r\n" + END[:-2], b"5\r\nhello\r\n0\r\n\r\n"),
    ]
    async with create_world() as world:
        await warm(world)
        through = 0
        for number in range(MUTATIONS):
            data = spoilt(whole[number % len(whole)], chance)
            answers = await statuses(world, data)
            if answers and answers[0] == 200:
                through += 1
                assert not nginx.refuses(data), data
        assert MUTATIONS / 20 < through < MUTATIONS


def spoilt(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    piece = bytes([chance.choice(SPECIAL)])
    what = chance.randrange(3)
    if what == 0:
        return data[:place] + piece + data[place:]
    if what == 1:
        return data[:place] + piece + data[place + 1 :]
    return data[:place] + data[place + 1 :]
