"""TLS in front of the gateway: what is agreed on, what is refused, and that everything behind it stays as it is."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.gateway.addresses import read_networks
from local.gateway.certificates import Renewed
from local.gateway.settings import Limits
from tests.fakes.certificates import Authority
from tests.fakes.control_server import create_route
from tests.fakes.instance_server import LARGE, FakeInstance
from tests.fakes.manual_clock import ManualClock
from tests.integration.gateway.world import Call, World, create_world, request, until, within


class Today(ManualClock):
    """A clock within the validity of the certificates, which are made with the real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path)


@pytest.fixture
def certificate(authority: Authority) -> Renewed:
    return Renewed(authority.issue("gateway", "127.0.0.1"), clock=Today())


@pytest.fixture
def tls(certificate: Renewed) -> Callable[[], ssl.SSLContext]:
    return lambda: certificate.current.context


async def connect(world: World, authority: Authority, *, context: ssl.SSLContext | None = None) -> Call:
    return await world.connect(ssl=context or authority.trusting(), server_hostname="gateway")


async def call(world: World, authority: Authority, path: str, **rest: Any) -> Any:
    connection = await connect(world, authority)
    connection.send(request(path, **rest))
    return await connection.answer(head_only=rest.get("method") == "HEAD")


async def test_calls_and_what_they_are_told_of_the_way(authority: Authority, tls: Callable[[], ssl.SSLContext]) -> None:
    async with create_world(tls=tls) as world:
        answer = await call(world, authority, "/agents/echo", body=b"in")
        seen = answer.json()
        assert (answer.status, seen["body"]) == (200, "in")
        assert seen["headers"]["x-forwarded-proto"] == "https"
        assert seen["headers"]["forwarded"] == 'for=127.0.0.1;host="gateway";proto=https'
        assert "strict-transport-security" not in answer.headers


async def test_the_api_and_our_own_answers_ask_browsers_to_come_by_tls_only(
    authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with create_world(tls=tls) as world:
        api = FakeInstance("api", world.folder / "api.sock")
        await api.start()
        for path in ("/api/v1/runs", "/healthz", "/nothing"):
            answer = await call(world, authority, path, method="GET")
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
        api.kill()


async def test_http_1_1_is_agreed_on_with_a_modern_cipher(
    authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with create_world(tls=tls) as world:
        for version, suites in ((ssl.TLSVersion.TLSv1_2, {"ECDHE"}), (ssl.TLSVersion.TLSv1_3, {"TLS"})):
            context = authority.trusting()
            context.maximum_version = version
            context.set_alpn_protocols(["h2", "http/1.1"])
            connection = await connect(world, authority, context=context)
            agreed = connection.writer.get_extra_info("ssl_object")
            assert agreed.selected_alpn_protocol() == "http/1.1"
            name, _, bits = agreed.cipher()
            assert name.replace("_", "-").partition("-")[0] in suites
            assert "GCM" in name or "CHACHA20" in name
            assert bits >= 128


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AES+SHA256:!AESGCM"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_versions_and_ciphers_are_refused(
    version: ssl.TLSVersion, ciphers: str, authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with create_world(tls=tls) as world:
        context = authority.trusting()
        context.minimum_version = context.maximum_version = version
        context.set_ciphers(ciphers)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(world, authority, context=context)
        await until(lambda: world.gateway.failed_handshakes == 1)


async def test_plain_http_is_no_tls(authority: Authority, tls: Callable[[], ssl.SSLContext]) -> None:
    async with create_world(tls=tls) as world:
        plain = await world.send(request("/agents/echo"))
        with contextlib.suppress(ConnectionError):
            assert b"200" not in await plain.ended()
        await until(lambda: world.gateway.failed_handshakes == 1)
        assert (await call(world, authority, "/agents/echo")).status == 200


async def test_a_renewed_certificate_is_served_to_the_next_connection(
    authority: Authority, certificate: Renewed, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with create_world(tls=tls) as world:
        before = await connect(world, authority)
        authority.issue("gateway", "renewed.example")
        certificate.look()
        after = await connect(world, authority)
        names = [
            connection.writer.get_extra_info("peercert")["subjectAltName"][-1][1] for connection in (before, after)
        ]
        assert names == ["127.0.0.1", "renewed.example"]
        before.send(request("/agents/echo"))
        assert (await before.answer()).status == 200


async def test_bodies_of_both_directions_streams_and_upgrades_go_through(
    authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with create_world(tls=tls) as world:
        body = bytes(range(256)) * 2000
        assert (await call(world, authority, "/agents/echo", body=body)).json()["body"].encode("latin-1") == body
        assert (await call(world, authority, "/agents/echo/large")).body == LARGE
        stream = await connect(world, authority)
        stream.send(request("/agents/echo/sse"))
        await stream.head()
        assert await stream.piece() == b"data: one\n\n"
        (await world.started()).release.set()
        assert await stream.piece() == b"data: two\n\n"
        socket_ = await connect(world, authority)
        socket_.send(
            request("/agents/echo/upgrade", method="GET", connection="upgrade", upgrade="websocket") + b"early "
        )
        assert (await socket_.head())[0] == 101
        socket_.send(b"bytes")
        assert await within(socket_.reader.readexactly(11)) == b"early bytes"


async def test_a_refusal_arrives_although_its_request_is_still_coming(
    authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with create_world(tls=tls, payload_limit=10) as world:
        connection = await connect(world, authority)
        connection.send(request("/agents/echo", body=bytes(1_000_000)))
        assert (await connection.answer()).status == 413
        world.pass_time(3)
        with contextlib.suppress(ConnectionError):  # the rest of the request was not read
            assert await connection.ended() == b""


async def test_a_caller_that_says_its_end_has_gone(
    authority: Authority, tls: Callable[[], ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    async with create_world(tls=tls) as world:
        connection = await connect(world, authority)
        connection.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        connection.close()
        await until(lambda: not world.gateway.clients)
        instance.release.set()
        assert await within(instance.finished.get()) == "/hold"
        assert caplog.records == []


async def test_an_address_has_no_more_handshakes_going_on_than_connections(
    authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    limits = replace(Limits(), address_connections=2, exempt=read_networks("none"))
    async with create_world(tls=tls, limits=limits) as world:
        silent = [await world.connect() for _ in range(2)]
        third = await world.connect()
        with contextlib.suppress(ConnectionError):
            assert await third.ended() == b""
        for one in silent:
            one.reset()
        await until(lambda: world.gateway.failed_handshakes == 2)
        assert (await call(world, authority, "/agents/echo")).status == 200
        page = world.gateway.metrics()
        assert "orchestrator_gateway_turned_away_total 1" in page
        assert "orchestrator_gateway_failed_handshakes_total 2" in page


async def test_a_handshake_that_is_not_finished_ends(authority: Authority, tls: Callable[[], ssl.SSLContext]) -> None:
    """The time for it is the event loop's own, so this one is real."""
    limits = replace(Limits(), head_timeout=0.05)
    async with create_world(tls=tls, limits=limits) as world:
        silent = await world.connect()
        with contextlib.suppress(ConnectionError):
            assert await silent.ended() == b""
        assert world.gateway.failed_handshakes == 1


async def test_draining_takes_no_more_connections(authority: Authority, tls: Callable[[], ssl.SSLContext]) -> None:
    async with create_world(tls=tls) as world:
        idle = await connect(world, authority)
        await until(lambda: bool(world.gateway.clients))
        late = await world.connect()
        world.gateway.draining = True
        for client in list(world.gateway.clients):
            client.close()
        assert await idle.ended() == b""
        await within(late.writer.start_tls(authority.trusting(), server_hostname="gateway"))
        assert await late.ended() == b""


async def test_an_agent_s_own_origin_is_reached_by_name(
    authority: Authority, tls: Callable[[], ssl.SSLContext]
) -> None:
    async with create_world(tls=tls) as world:
        await world.push(create_route())
        answer = await call(world, authority, "/path", host="echo.acme.localhost")
        assert answer.json()["target"] == "/path"
        assert "content-security-policy" not in answer.headers
