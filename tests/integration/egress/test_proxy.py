"""Connections out of an instance over real sockets: CONNECT, plain HTTP and SOCKS5, and what is refused on each."""

from __future__ import annotations

import socket

import pytest

from local.gateway.metrics import Page
from tests.integration.egress.way_out import WayOut, create_way_out


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode()


def socks(host: str, port: int, *, command: int = 1) -> bytes:
    name = host.encode()
    return b"\x05\x01\x00" + bytes((5, command, 0, 3, len(name))) + name + port.to_bytes(2)


# CONNECT


async def test_a_tunnel_carries_bytes_both_ways_and_counts_them() -> None:
    async with create_way_out() as out:
        out.upstream.echo = True
        wire = await out.send(connect(f"server.test:{out.upstream.port}"))
        assert (await wire.head()).startswith(b"HTTP/1.1 200 ")
        wire.writer.write(b"ping")
        assert await wire.exactly(4) == b"ping"
        assert (out.traffic.sent, out.traffic.received, out.traffic.connections, out.traffic.refused) == (4, 4, 1, 0)


async def test_an_end_that_stops_sending_still_gets_its_answer() -> None:
    async with create_way_out() as out:
        out.upstream.echo = True
        wire = await out.send(connect(f"server.test:{out.upstream.port}") + b"all")
        wire.writer.write_eof()
        assert (await wire.rest()).endswith(b"\r\n\r\nall")
        await out.upstream.ended.wait()


@pytest.mark.parametrize("target", ["server.test", "server.test:x", ":80", "user@server.test:80", "server.test:99999"])
async def test_a_target_that_is_no_host_and_port_is_malformed(target: str) -> None:
    async with create_way_out() as out:
        assert (await out.ask(connect(target))).startswith(b"HTTP/1.1 400 ")
        assert out.names.asked == []


async def test_a_request_line_of_another_form_is_malformed() -> None:
    async with create_way_out() as out:
        assert (await out.ask(b"CONNECT server.test:80\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_a_name_that_is_not_known_is_502() -> None:
    async with create_way_out() as out:
        answer = await out.ask(connect("nowhere.test:443"))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"name_unknown" in answer


async def test_leave_for_one_port_is_no_leave_for_another() -> None:
    async with create_way_out() as out:
        assert (await out.ask(connect("server.test:1"))).startswith(b"HTTP/1.1 403 ")


async def test_a_server_that_is_not_there_is_502() -> None:
    async with create_way_out() as out:
        out.server.close()
        await out.server.wait_closed()
        answer = await out.ask(connect(f"server.test:{out.upstream.port}"))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"unreachable" in answer


# what names mean


async def test_a_name_that_points_inside_is_refused() -> None:
    async with create_way_out() as out:
        out.names.answers["inside.test"] = [["10.0.0.7"]]
        answer = await out.ask(connect("inside.test:443"))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"10.0.0.7 is a private network" in answer
        assert out.traffic.refused == 1


async def test_a_refusal_says_in_its_first_line_why_because_clients_show_no_more() -> None:
    async with create_way_out() as out:
        out.names.answers["inside.test"] = [["10.0.0.7"]]
        first, _, _ = (await out.ask(connect("inside.test:443"))).partition(b"\r\n")
        assert first == (
            b"HTTP/1.1 403 The connection to inside.test:443 is refused: 10.0.0.7 is a private network. "
            b"The operator may allow it with ORCHESTRATOR_EGRESS_ALLOW=inside.test:443."
        )


async def test_one_private_address_among_public_ones_is_refused() -> None:
    async with create_way_out() as out:
        out.names.answers["mixed.test"] = [["93.184.216.34", "169.254.169.254"]]
        assert (await out.ask(connect("mixed.test:80"))).startswith(b"HTTP/1.1 403 ")


async def test_a_name_is_asked_for_once_so_a_second_answer_leads_nowhere_else() -> None:
    async with create_way_out() as out:
        out.names.answers["server.test"] = [["127.0.0.1"], ["10.0.0.1"]]
        out.upstream.echo = True
        wire = await out.send(connect(f"server.test:{out.upstream.port}"))
        await wire.head()
        assert out.names.asked == ["server.test"]


async def test_without_the_operators_leave_the_loopback_is_refused_by_every_name() -> None:
    async with create_way_out(allow=False) as out:
        for host in ("server.test", "127.0.0.1", "127.1", "2130706433", "[::ffff:7f00:1]"):
            answer = await out.ask(connect(f"{host}:{out.upstream.port}"))
            assert answer.startswith(b"HTTP/1.1 403 "), host
        assert out.upstream.connections == 0
        assert out.traffic.refused == 5


async def test_the_refusal_says_what_the_operator_may_do() -> None:
    async with create_way_out(allow=False) as out:
        answer = await out.ask(connect(f"server.test:{out.upstream.port}"))
        assert f"ORCHESTRATOR_EGRESS_ALLOW=server.test:{out.upstream.port}".encode() in answer


async def test_the_manifests_list_is_asked_before_the_name_server() -> None:
    async with create_way_out(network=["api.example.com"]) as out:
        answer = await out.ask(connect(f"server.test:{out.upstream.port}"))
        assert b"agent.yaml does not list this host" in answer
        assert out.names.asked == []


# plain HTTP


async def test_a_plain_request_is_written_anew_for_the_host() -> None:
    async with create_way_out() as out:
        port = out.upstream.port
        answer = await out.ask(
            f"GET http://server.test:{port}/a?b=1 HTTP/1.1\r\nhost: other.test\r\nproxy-connection: keep-alive\r\n"
            "connection: x-hop\r\nx-hop: 1\r\nproxy-authorization: Basic x\r\nx-end: kept\r\n\r\n".encode()
        )
        assert answer.endswith(b"\r\n\r\nhello")
        head = out.upstream.received[0].decode()
        assert head.startswith(f"GET /a?b=1 HTTP/1.1\r\nhost: server.test:{port}\r\n")
        assert "x-end: kept\r\n" in head
        assert "connection: close\r\n" in head
        for dropped in ("x-hop", "proxy-", "other.test"):
            assert dropped not in head


@pytest.mark.parametrize(
    ("fields", "body", "arrived"),
    [
        ("content-length: 3\r\n", b"abcGET http://10.0.0.1/ HTTP/1.1\r\n\r\n", b"abc"),
        ("transfer-encoding: chunked\r\n", b"3;x=1\r\nabc\r\n0\r\n\r\nGET http://10.0.0.1/ ", b"3\r\nabc\r\n0\r\n\r\n"),
    ],
)
async def test_exactly_the_body_that_was_announced_is_sent(fields: str, body: bytes, arrived: bytes) -> None:
    async with create_way_out() as out:
        head = f"POST http://server.test:{out.upstream.port}/ HTTP/1.1\r\nhost: server.test\r\n{fields}\r\n"
        assert (await out.ask(head.encode() + body)).endswith(b"hello")
        assert out.upstream.received[0].partition(b"\r\n\r\n")[2] == arrived


@pytest.mark.parametrize(
    "request_",
    [
        b"GET https://server.test/ HTTP/1.1\r\nhost: server.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: server.test\r\n\r\n",
        b"GET ftp://server.test/ HTTP/1.1\r\nhost: server.test\r\n\r\n",
        b"GET http://a:b@server.test/ HTTP/1.1\r\nhost: server.test\r\n\r\n",
        b"POST http://server.test/ HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET http://server.test/ HTTP/1.1 x\r\n\r\n",
        b"GET http://s\xc3\xa9rver.test/ HTTP/1.1\r\n\r\n",
        b"GET http://server.test/ HTTP/1.1\r\nbad name: x\r\n\r\n",
    ],
)
async def test_a_plain_request_that_is_not_well_formed_goes_nowhere(request_: bytes) -> None:
    async with create_way_out() as out:
        assert (await out.ask(request_)).startswith(b"HTTP/1.1 400 ")
        assert out.upstream.connections == 0


async def test_a_redirect_is_a_new_request_and_checked_like_one() -> None:
    async with create_way_out() as out:
        out.upstream.answer = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
        first = await out.ask(f"GET http://server.test:{out.upstream.port}/ HTTP/1.1\r\n\r\n".encode())
        assert b"location: http://169.254.169.254/" in first
        assert (await out.ask(b"GET http://169.254.169.254/ HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 403 ")


# SOCKS5


@pytest.mark.parametrize("written", ["name", "ipv4"])
async def test_socks_leads_where_http_does(written: str) -> None:
    async with create_way_out() as out:
        out.upstream.echo = True
        port = out.upstream.port
        by_address = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2)
        wire = await out.send(socks("server.test", port) if written == "name" else by_address)
        assert await wire.exactly(2) == b"\x05\x00"
        granted = await wire.exactly(10)
        if written == "ipv4":  # the operator allows the name, not the address
            assert granted[:2] == b"\x05\x02"
            return
        assert granted[:2] == b"\x05\x00"
        wire.writer.write(b"ping")
        assert await wire.exactly(4) == b"ping"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (socks("inside.test", 80), 2),
        (socks("nowhere.test", 80), 4),
        (socks("server.test", 80, command=2), 7),
        (b"\x05\x01\x00\x05\x01\x00\x04" + socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1") + b"\x00\x50", 2),
        (b"\x05\x01\x00\x05\x01\x00\x09\x00\x00", 7),
    ],
)
async def test_what_socks_refuses_has_a_code(request_: bytes, code: int) -> None:
    async with create_way_out() as out:
        out.names.answers["inside.test"] = [["192.168.0.1"]]
        assert await out.ask(request_) == b"\x05\x00" + bytes((5, code)) + b"\x00\x01\x00\x00\x00\x00\x00\x00"


async def test_a_client_that_insists_on_a_password_is_turned_away() -> None:
    async with create_way_out() as out:
        assert await out.ask(b"\x05\x01\x02") == b"\x05\xff"


# the life of a way out


async def test_when_the_instance_goes_its_connections_go_and_its_traffic_stays_counted() -> None:
    async with create_way_out() as out:
        out.upstream.echo = True
        wire = await out.send(connect(f"server.test:{out.upstream.port}"))
        await wire.head()
        wire.writer.write(b"ping")
        await wire.exactly(4)
        out.egress.close("i-1")
        assert await wire.rest() == b""
        assert 'orchestrator_egress_sent_total{organization="org-1"} 4' in metrics(out)
        with pytest.raises(ConnectionRefusedError):
            await out.send(b"")


def metrics(out: WayOut) -> str:
    page = Page()
    out.egress.metrics(page)
    return page.text()
