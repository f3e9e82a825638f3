"""Rates, numbers of connections, wrong tokens and slow callers: who is told to wait, and who is not."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest

from local.gateway.addresses import read_networks
from local.gateway.settings import Limits
from tests.fakes.control_server import create_credential, create_revision, create_route
from tests.fakes.instance_server import LARGE, FakeInstance, Received
from tests.integration.gateway.world import Answer, World, create_world, request, until, within


def limits(**changes: Any) -> Limits:
    """With no limit but those that a test is about, which hold for the loopback too."""
    none = {"address_connections": 0, "address_rate": 0.0, "credential_rate": 0.0, "organization_rate": 0.0}
    return replace(Limits(), **{**none, "exempt": read_networks("none"), **changes})


async def call(world: World, path: str, *, source: str | None = None, **rest: Any) -> Answer:
    connection = await world.connect(source=source)
    connection.send(request(path, **rest))
    return await connection.answer()


async def test_an_address_that_sends_too_many_requests_waits_and_others_do_not() -> None:
    async with create_world(limits=limits(address_rate=2.0)) as world:
        answers = [await call(world, "/healthz", method="GET") for _ in range(11)]
        assert [answer.status for answer in answers] == [200] * 10 + [429]
        refused = answers[-1]
        assert (refused.json()["code"], refused.json()["limit"], refused.json()["per_second"]) == (
            "rate_limited",
            "address",
            2.0,
        )
        assert refused.headers["retry-after"] == str(refused.json()["retry_after"]) == "1"
        assert (await call(world, "/healthz", source="127.0.0.2", method="GET")).status == 200
        world.pass_time(1)
        assert [(await call(world, "/healthz", method="GET")).status for _ in range(3)] == [200, 200, 429]


async def test_a_credential_has_its_rate_wherever_it_is_used() -> None:
    async with create_world(limits=limits(credential_rate=1.0)) as world:
        await world.push(create_route(), credentials=[create_credential("one"), create_credential("other")])
        for number in range(5):
            assert (await call(world, "/agents/echo", source=f"127.0.0.{number + 1}", token="one")).status == 200
        refused = await call(world, "/agents/echo", source="127.0.0.9", token="one")
        assert (refused.status, refused.json()["limit"]) == (429, "credential")
        assert (await call(world, "/agents/echo", token="other")).status == 200


async def test_an_organization_s_credentials_share_its_rate() -> None:
    async with create_world(limits=limits(organization_rate=1.0)) as world:
        credentials = [create_credential(name) for name in ("a", "b")]
        foreign = create_credential("foreign", organization="org-2")
        await world.push(create_route(), create_route(organization="org-2"), credentials=[*credentials, foreign])
        for number in range(5):
            assert (await call(world, "/agents/echo", token="ab"[number % 2])).status == 200
        refused = await call(world, "/agents/echo", token="a")
        assert (refused.status, refused.json()["limit"]) == (429, "organization")
        assert (await call(world, "/agents/echo", token="foreign")).status == 200


async def test_calls_of_the_api_count_as_well_and_are_refused_before_the_server_hears_of_them() -> None:
    async with create_world(limits=limits(credential_rate=1.0)) as world:
        api = FakeInstance("api", world.folder / "api.sock")
        await api.start()
        statuses = [(await call(world, "/api/v1/runs", method="GET")).status for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        assert len(api.received) == 5
        api.kill()


async def test_a_refused_request_leaves_a_connection_that_can_be_used() -> None:
    async with create_world(limits=limits(address_rate=0.2)) as world:
        connection = await world.send(request("/healthz", method="GET") * 2)
        assert [(await connection.answer()).status for _ in range(2)] == [200, 429]
        world.pass_time(5)
        connection.send(request("/healthz", method="GET"))
        assert (await connection.answer()).status == 200


async def test_by_default_the_machine_s_own_programs_have_no_limits() -> None:
    async with create_world(limits=replace(Limits(), address_rate=1.0, address_connections=1)) as world:
        assert [(await call(world, "/healthz", method="GET")).status for _ in range(20)] == [200] * 20


async def test_an_address_has_no_more_connections_than_it_may() -> None:
    async with create_world(limits=limits(address_connections=2)) as world:
        first, _ = await world.connect(), await world.connect()
        await until(lambda: len(world.gateway.clients) == 2)
        third = await world.connect()
        refused = await third.answer()
        assert (refused.status, refused.json()["code"]) == (429, "too_many_connections")
        assert await third.ended() == b""
        assert (await call(world, "/healthz", source="127.0.0.2", method="GET")).status == 200
        first.close()
        third.close()
        await until(lambda: len(world.gateway.clients) == 2)
        assert (await call(world, "/healthz", method="GET")).status == 200


async def test_beyond_what_all_may_have_together_nobody_is_told_why() -> None:
    async with create_world(limits=limits(connections=1)) as world:
        await world.connect()
        await until(lambda: len(world.gateway.clients) == 1)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await call(world, "/healthz", method="GET")
        assert "orchestrator_gateway_turned_away_total 1" in world.gateway.metrics()


async def test_many_wrong_tokens_of_an_agent_s_callers_are_slowed_down_and_the_right_one_is_not() -> None:
    async with create_world() as world:
        for number in range(10):
            assert (await call(world, "/agents/echo", token=f"{number}-wrong-token")).status == 401
        throttled = await call(world, "/agents/echo", token="another-one")
        assert (throttled.status, throttled.json()["code"]) == (429, "sign_in_throttled")
        assert throttled.headers["retry-after"] == "10"
        assert (await call(world, "/agents/echo")).status == 200
        assert (await call(world, "/agents/echo", source="127.0.0.2", token="another-one")).status == 401
        world.pass_time(10)
        assert (await call(world, "/agents/echo", token="another-one")).status == 401
        assert (await call(world, "/agents/echo", token="another-one")).status == 429


async def test_tokens_that_begin_alike_are_slowed_down_wherever_they_come_from() -> None:
    async with create_world() as world:
        for number in range(10):
            token = f"orc_AbCdEfGh{number}"
            assert (await call(world, "/agents/echo", source=f"127.0.0.{number + 1}", token=token)).status == 401
        throttled = await call(world, "/agents/echo", source="127.0.0.99", token="orc_AbCdEfGhX")
        assert throttled.status == 429
        assert (await call(world, "/agents/echo", source="127.0.0.99", token="orc_other")).status == 401


class Strict(FakeInstance):
    """The server of the API, which knows one token."""

    async def _answer(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.headers.get("authorization") in {"Bearer owner-token", "Basic " + basic("owner-token")}:
            await super()._answer(request, reader, writer)
        else:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")


def basic(token: str) -> str:
    return base64.b64encode(f"any:{token}".encode()).decode()


async def test_wrong_tokens_for_the_api_are_counted_by_the_server_s_answers_and_then_kept_from_it() -> None:
    async with create_world() as world:
        api = Strict("api", world.folder / "api.sock")
        await api.start()
        for number in range(10):
            assert (await call(world, "/api/v1/runs", method="GET", token=f"{number}-wrong-token")).status == 401
        assert (await call(world, "/api/v1/runs", method="GET", token="another-one")).status == 429
        throttled = request("/api/v1/docs", method="GET", token=None, authorization="Basic " + basic("guess"))
        assert (await (await world.send(throttled)).answer()).status == 429
        assert len(api.received) == 10
        assert (await call(world, "/api/v1/runs", method="GET")).status == 200
        right = request("/api/v1/docs", method="GET", token=None, authorization="Basic " + basic("owner-token"))
        assert (await (await world.send(right)).answer()).status == 200
        assert (await call(world, "/api/v1/runs", method="GET", token=None)).status == 401
        assert (await call(world, "/api/v1/runs", method="GET", token="signed.by.somebody")).status == 401
        api.kill()


async def test_callers_without_a_token_and_those_of_public_agents_try_none() -> None:
    async with create_world() as world:
        for _ in range(20):
            assert (await call(world, "/agents/echo", token=None)).status == 401
        await world.push(create_route(access="public"))
        for _ in range(20):
            assert (await call(world, "/agents/echo", token="the-agent-s-own")).status == 200


async def test_a_body_that_trickles_is_408_however_regular_it_is() -> None:
    async with create_world(revisions={"echo-00001": create_revision(timeout=1000.0)}) as world:
        head = request("/agents/echo", body=bytes(1000))[:-1000]
        connection = await world.send(head)
        await world.started()
        client = next(iter(world.gateway.clients))
        for number in range(13):
            connection.send(b"x")
            await until(lambda number=number: client.exchange is None or client.exchange.received > number)  # type: ignore[misc]
            world.pass_time(10)
        assert (await connection.answer()).status == 408


async def test_a_body_that_comes_slowly_but_steadily_is_taken() -> None:
    async with create_world(revisions={"echo-00001": create_revision(timeout=1000.0)}) as world:
        connection = await world.send(request("/agents/echo", body=bytes(20_000))[:-20_000])
        await world.started()
        client = next(iter(world.gateway.clients))
        for number in range(10):
            connection.send(bytes(2000))
            if number < 9:
                await until(lambda number=number: client.exchange.received == 2000 * (number + 1))  # type: ignore[misc, union-attr]
                world.pass_time(15)
        assert (await connection.answer()).status == 200


class Talkative(FakeInstance):
    """The server of the API, whose every answer is long."""

    async def _answer(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(LARGE) + LARGE)


async def test_a_reader_of_the_api_that_stops_is_cut_off() -> None:
    async with create_world() as world:
        api = Talkative("api", world.folder / "api.sock")
        await api.start()
        connection = await world.send(request("/api/v1/runs", method="GET"))
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of a connection reads
        await until(lambda: any(client.full for client in world.gateway.clients))
        world.pass_time(61)
        await until(lambda: not world.gateway.clients)
        api.kill()


async def test_a_reader_that_is_slow_but_goes_on_gets_everything() -> None:
    async with create_world() as world:
        api = Talkative("api", world.folder / "api.sock")
        await api.start()
        connection = await world.send(request("/api/v1/runs", method="GET"))
        assert (await connection.head())[0] == 200
        received = 0
        while received < len(LARGE):
            received += len(await within(connection.reader.read(65536)))
            world.clock.advance(5.0)
            world.gateway.sweep()
        assert world.clock.monotonic() > 1000 + 2 * Limits().read_timeout
        api.kill()
