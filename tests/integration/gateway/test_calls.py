"""A call from a caller's socket to an instance's socket and back."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from domain.deployment import DesiredAgent
from local.platform.routes import route
from orchestrator_runtime.contract.errors import AgentError, BadGateway, Unavailable
from orchestrator_runtime.contract.wire import Message
from tests.fakes.control_server import create_credential, create_revision, create_route
from tests.fakes.instance_server import LARGE, FakeInstance
from tests.integration.gateway.world import create_world, request, until, within


async def test_the_first_call_starts_an_instance_and_is_answered_by_it() -> None:
    async with create_world() as world:
        answer = await world.call("/agents/echo/run?x=1", body=b'{"a":1}', orchestrator_session="s")

        assert answer.status == 200
        seen = answer.json()
        assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/run?x=1", '{"a":1}')
        assert seen["headers"]["orchestrator-call-token"] == "token-of-echo-00001-1"
        assert seen["headers"]["orchestrator-session"] == "s"
        assert answer.headers["orchestrator-revision"] == "echo-00001"
        assert answer.headers["x-correlation-id"] == seen["headers"]["x-correlation-id"]


async def test_what_a_caller_says_in_our_name_never_arrives() -> None:
    async with create_world() as world:
        answer = await world.call(
            "/agents/echo",
            orchestrator_run_id="mine",
            orchestrator_call_token="mine",
            orchestrator_caller="root",
            orchestrator_dispatch="1",
            x_forwarded_for="1.2.3.4",
            forwarded="for=1.2.3.4",
            connection="keep-alive, x-secret",
            x_secret="hop",
        )
        headers = answer.json()["headers"]
        assert "mine" not in headers.values()
        assert headers["orchestrator-caller"].startswith("credential:")
        assert "orchestrator-dispatch" not in headers
        assert "authorization" not in headers
        assert "x-secret" not in headers
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["forwarded"] == 'for=127.0.0.1;host="gateway";proto=http'


async def test_names_with_underscores_do_not_pass_for_ours() -> None:
    async with create_world() as world:
        call = await world.send(
            b"GET /agents/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner-token\r\n"
            b"orchestrator_run_id: mine\r\nx_real_ip: 1.1.1.1\r\n\r\n"
        )
        assert not {"orchestrator_run_id", "x_real_ip"} & set((await call.answer()).json()["headers"])


async def test_one_connection_serves_many_requests_also_pipelined_ones() -> None:
    async with create_world() as world:
        call = await world.send(b"".join(request(f"/agents/echo/{n}", body=b"x" * n) for n in range(1, 4)))
        for number in range(1, 4):
            assert (await call.answer()).json()["target"] == f"/{number}"
        call.send(request("/agents/echo/4"))
        assert (await call.answer()).json()["target"] == "/4"


async def test_without_a_valid_credential_nothing_starts() -> None:
    async with create_world() as world:
        assert (await world.call("/agents/echo", token=None)).status == 401
        wrong = await world.call("/agents/echo", token="wrong")
        assert (wrong.status, wrong.json()["code"]) == (401, "unauthenticated")
        assert world.supervisor.started.empty()


async def test_a_credential_needs_the_permission_and_the_organization() -> None:
    async with create_world() as world:
        weak = create_credential("weak", permissions=("runs:read",))
        foreign = create_credential("foreign", organization="org-2")
        await world.push(create_route(), credentials=[weak, foreign])
        assert (await world.call("/agents/echo", token="weak")).status == 403
        assert (await world.call("/agents/echo", token="foreign")).status == 404
        assert (await world.call("/", token="foreign", host="echo.acme.localhost")).status == 404


async def test_a_public_agent_needs_no_credential() -> None:
    async with create_world(access="public") as world:
        answer = await world.call("/agents/echo", token=None)
        assert answer.json()["headers"]["orchestrator-caller"] == "public"


async def test_an_agent_is_reached_by_host_and_a_revision_by_tag() -> None:
    traffic = [
        {"revision": "echo-00001", "percent": 100, "tag": None},
        {"revision": "echo-00002", "percent": 0, "tag": "next"},
    ]
    revisions = {"echo-00001": create_revision(), "echo-00002": create_revision()}
    async with create_world(traffic=traffic, revisions=revisions) as world:
        by_host = await world.call("/path", host="echo.acme.localhost:4100")
        assert (by_host.headers["orchestrator-revision"], by_host.json()["target"]) == ("echo-00001", "/path")
        tagged_host = await world.call("/", host="next-echo.acme.localhost")
        assert tagged_host.headers["orchestrator-revision"] == "echo-00002"
        tagged = await world.call("/agents/echo", orchestrator_tag="next")
        assert tagged.headers["orchestrator-revision"] == "echo-00002"
        assert (await world.call("/agents/echo", orchestrator_tag="none")).json()["code"] == "tag_unknown"


async def test_an_agent_without_a_ready_revision_is_known_and_not_ready() -> None:
    async with create_world() as world:
        await world.push(route(DesiredAgent("org-1", "echo", (), ()), settings={}))
        answer = await world.call("/agents/echo")
        assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "agent_not_ready", "1")
        assert "orchestrator describe echo" in answer.json()["hint"]
        assert (await world.call("/agents/echo", token=None)).status == 401


async def test_traffic_is_split_by_percentage() -> None:
    traffic = [{"revision": f"echo-0000{n}", "percent": percent, "tag": None} for n, percent in ((1, 80), (2, 20))]
    revisions = {"echo-00001": create_revision(), "echo-00002": create_revision()}
    async with create_world(traffic=traffic, revisions=revisions) as world:
        call = await world.connect()
        counts = {"echo-00001": 0, "echo-00002": 0}
        for _ in range(200):
            call.send(request("/agents/echo"))
            counts[(await call.answer()).headers["orchestrator-revision"]] += 1
        assert 25 <= counts["echo-00002"] <= 55


async def test_healthz_and_unknown_paths() -> None:
    async with create_world() as world:
        assert (await world.call("/healthz", method="GET", token=None)).json() == {"status": "ok"}
        assert (await world.call("/", method="GET")).json()["code"] == "not_found"
        missing = await world.call("/agents/missing")
        assert (missing.status, missing.json()["code"]) == (404, "agent_unknown")


async def test_the_api_is_passed_on_with_its_credential() -> None:
    async with create_world() as world:
        api = FakeInstance("api", world.folder / "api.sock")
        await api.start()
        answer = await world.call("/api/v1/runs?limit=1", method="GET", token="anything")
        assert answer.json()["target"] == "/api/v1/runs?limit=1"
        assert answer.json()["headers"]["authorization"] == "Bearer anything"
        assert "orchestrator-call-token" not in answer.json()["headers"]
        api.kill()
        assert (await world.call("/api/v1/runs", method="GET")).json()["code"] == "server_unavailable"


async def test_a_head_request_gets_no_body() -> None:
    async with create_world() as world:
        answer = await world.call("/agents/echo", method="HEAD")
        assert answer.status == 200
        assert int(answer.headers["content-length"]) > 0


async def test_a_chunked_body_goes_through() -> None:
    async with create_world() as world:
        call = await world.send(
            b"POST /agents/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner-token\r\n"
            b"transfer-encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n"
        )
        call.send(b"2\r\nde\r\n0\r\ntrailer: dropped\r\n\r\n")
        seen = (await call.answer()).json()
        assert seen["body"] == "abcde"
        assert seen["headers"]["transfer-encoding"] == "chunked"
        assert "trailer" not in seen["headers"]


async def test_expect_continue_is_answered_before_the_body_is_sent() -> None:
    async with create_world() as world:
        call = await world.send(
            b"POST /agents/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner-token\r\n"
            b"content-length: 2\r\nexpect: 100-continue\r\n\r\n"
        )
        assert (await call.head())[0] == 100
        call.send(b"ok")
        answer = await call.answer()
        assert (answer.status, answer.json()["body"]) == (200, "ok")
        assert "expect" not in answer.json()["headers"]


async def test_events_arrive_one_by_one() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/sse"))
        assert (await call.head())[0] == 200
        assert await call.piece() == b"data: one\n\n"
        (await world.started()).release.set()
        assert await call.piece() == b"data: two\n\n"
        assert await call.piece() == b""


async def test_a_large_answer_waits_for_a_slow_reader() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/large"))
        assert (await call.head())[0] == 200
        async with asyncio.timeout(10):
            assert await call.reader.readexactly(len(LARGE)) == LARGE


async def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    async with create_world() as world:
        assert (await world.call("/agents/echo/close")).body == b"until the end"


async def test_an_upgraded_connection_carries_bytes_both_ways() -> None:
    async with create_world() as world:
        upgrade = request("/agents/echo/upgrade", method="GET", connection="Upgrade", upgrade="websocket")
        call = await world.send(upgrade + b"early ")
        status, headers = await call.head()
        assert (status, headers["upgrade"], headers["connection"]) == (101, "websocket", "upgrade")
        call.send(b"bytes")
        async with asyncio.timeout(10):
            assert await call.reader.readexactly(11) == b"early bytes"


async def test_an_upgrade_that_the_agent_refuses_leaves_a_usable_connection() -> None:
    async with create_world() as world:
        refused = request("/agents/echo/no", method="GET", connection="upgrade", upgrade="websocket")
        call = await world.send(refused + request("/agents/echo/next"))
        assert (await call.answer()).json()["target"] == "/no"
        assert (await call.answer()).json()["target"] == "/next"


async def test_h2c_is_not_passed_on() -> None:
    async with create_world() as world:
        answer = await world.call("/agents/echo", method="GET", connection="upgrade, http2-settings", upgrade="h2c")
        assert answer.status == 200
        assert not {"upgrade", "http2-settings", "connection"} & set(answer.json()["headers"])


async def test_prefer_respond_async_answers_after_the_commit() -> None:
    async with create_world() as world:
        answer = await world.call(
            "/agents/echo/work?q=1", body=b"in", prefer="respond-async, wait=1", idempotency_key="k"
        )
        (submitted,) = world.server.submitted
        run = submitted.fields["run"]
        assert answer.status == 202
        assert answer.headers["location"] == answer.headers["orchestrator-run"] == f"/api/v1/runs/{run}"
        assert answer.headers["preference-applied"] == "respond-async"
        assert submitted.body == b"in"
        assert submitted.fields["key"] == "k"
        expected = {"method": "POST", "path": "/work", "query": "q=1", "content_type": ""}
        assert submitted.fields["request"] == expected
        assert world.supervisor.started.empty()


async def test_the_server_dispatches_a_run_through_the_gateway() -> None:
    async with create_world() as world:
        server = next(iter(world.server.peers))
        fields = {
            "run": "r1",
            "organization": "org-1",
            "agent": "echo",
            "revision": "echo-00001",
            "request": {"method": "POST", "path": "/work", "query": "", "content_type": "text/plain"},
            "deadline": 30.0,
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx-forged: yes",
        }
        reply = await within(server.call("run.dispatch", fields, b"in"))
        assert reply.fields["status"] == 200
        (received,) = (await world.started()).received
        assert received.body == b"in"
        assert received.headers["orchestrator-run-id"] == "r1"
        assert received.headers["orchestrator-dispatch"] == "1"
        assert received.headers["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        assert "x-forged" not in received.headers


def dispatched(run: str, path: str) -> dict[str, object]:
    return {
        "run": run,
        "organization": "org-1",
        "agent": "echo",
        "revision": "echo-00001",
        "request": {"method": "POST", "path": path, "query": "", "content_type": ""},
        "deadline": 30.0,
    }


async def test_a_dispatched_run_whose_instance_dies_is_given_back_at_once() -> None:
    """The server knows what becomes of it, and sends it again only when this sending has ended."""
    async with create_world() as world:
        server = next(iter(world.server.peers))
        with pytest.raises(BadGateway, match="ended before"):
            await within(server.call("run.dispatch", dispatched("r1", "/die")))
        assert world.server.asked.empty()


async def test_the_server_hears_why_a_dispatched_run_got_no_instance() -> None:
    async with create_world() as world:
        world.supervisor.fail_with = Unavailable("the disk is full", code="no_space")
        server = next(iter(world.server.peers))
        with pytest.raises(Unavailable, match="the disk is full"):
            await within(server.call("run.dispatch", dispatched("r1", "/")))


async def test_a_recorded_answer_has_one_length_and_no_field_of_another_shape() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/die") + request("/healthz", method="GET"))
        headers = {"Content-Length": "3", "transfer-encoding": "chunked", "x\r\ny": "1", "x-own": "1"}
        ending = {"status": 200, "content_type": "text/plain", "headers": headers}
        world.server.results.put_nowait(Message({"found": True, "state": "succeeded", "ending": ending}, b"recorded"))
        answer = await call.answer()
        assert (answer.body, answer.headers["x-own"]) == (b"recorded", "1")
        assert not {"Content-Length", "transfer-encoding", "x", "y"} & answer.headers.keys()
        assert (await call.answer()).status == 200


async def test_an_asynchronous_call_is_recorded_with_its_headers_but_no_credentials() -> None:
    async with create_world() as world:
        await world.call(
            "/agents/echo",
            body=b"in",
            prefer="respond-async",
            x_github_event="push",
            cookie="a=b",
            orchestrator_run_id="mine",
            orchestrator_session="s",
            connection="keep-alive, x-secret",
            x_secret="hop",
        )
        (submitted,) = world.server.submitted
        headers = submitted.fields["headers"]
        assert (headers["x-github-event"], headers["orchestrator-session"]) == ("push", "s")
        assert not {"authorization", "cookie", "orchestrator-run-id", "connection", "x-secret", "host"} & set(headers)


async def test_an_asynchronous_call_is_not_recorded_with_what_a_program_takes_for_its_proxy() -> None:
    """CGI and its like make HTTP_PROXY of it."""
    async with create_world() as world:
        await world.call("/agents/echo", body=b"in", prefer="respond-async", proxy="http://192.0.2.1:8080")
        (submitted,) = world.server.submitted
        assert "proxy" not in submitted.fields["headers"]


async def test_an_asynchronous_head_request_gets_no_body() -> None:
    async with create_world() as world:
        call = await world.send(
            request("/agents/echo", method="HEAD", prefer="respond-async") + request("/healthz", method="GET")
        )
        assert (await call.answer(head_only=True)).status == 202
        assert (await call.answer()).status == 200


async def test_a_probe_says_whether_a_revision_can_start() -> None:
    async with create_world() as world:
        server = next(iter(world.server.peers))
        fields = {"organization": "org-1", "revision": "echo-00001"}
        reply = await within(server.call("revision.probe", fields))
        assert reply.fields["ready_instances"] == 1
        text = (await within(server.call("metrics", {}))).fields["text"]
        assert 'orchestrator_agent_instances{organization="org-1",agent="echo",revision="echo-00001"} 1' in text


async def test_an_agent_that_cannot_start_says_why() -> None:
    async with create_world() as world:
        problem = AgentError("no module named x", code="import_failed", hint="Add x.", log=["not for callers"])
        world.supervisor.fail_with = problem
        answer = await world.call("/agents/echo")
        assert answer.status == 503
        assert answer.json()["cause"]["code"] == "import_failed"
        assert "log" not in answer.json()["cause"]
        assert "no module named x" in answer.json()["detail"]
        again = await world.call("/agents/echo")  # at once, without another start
        assert again.json()["code"] == "instance_start_failed"
        world.supervisor.fail_with = None
        world.clock.advance(5.0)
        assert (await world.call("/agents/echo")).status == 200


async def test_a_call_whose_instance_dies_gets_the_answer_of_the_next_attempt() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/die", body=b"in"))
        asked = await within(world.server.asked.get())
        run = (await world.started()).received[0].headers["orchestrator-run-id"]
        assert (asked["run"], asked["agent"], asked["organization"]) == (run, "echo", "org-1")
        world.server.results.put_nowait(Message({"found": True, "state": "running"}))
        ending = {"status": 201, "content_type": "text/plain", "headers": {"x-own": "1"}}
        world.server.results.put_nowait(
            Message({"found": True, "state": "succeeded", "ending": ending}, b"from the journal")
        )
        answer = await call.answer()
        assert (answer.status, answer.body) == (201, b"from the journal")
        assert answer.headers["x-own"] == "1"
        assert answer.headers["orchestrator-run"] == f"/api/v1/runs/{run}"


async def test_a_call_that_was_never_admitted_is_sent_to_another_instance() -> None:
    async with create_world() as world:
        await world.call("/agents/echo")
        first = await world.started()
        call = await world.send(request("/agents/echo/hold", body=b"in"))
        await until(lambda: len(first.received) == 2)
        world.supervisor.exit(first)
        world.server.results.put_nowait(Message({"found": False}))
        second = await world.started()
        second.release.set()
        seen = (await call.answer()).json()
        assert (seen["instance"], seen["body"]) == (second.id, "in")
        assert seen["headers"]["orchestrator-run-id"] == first.received[1].headers["orchestrator-run-id"]


async def test_an_answer_that_was_begun_is_cut_and_not_mended() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/cut"))
        status, headers = await call.head()
        assert (status, headers["content-length"]) == (200, "100")
        with contextlib.suppress(ConnectionError):  # a cut may show as a reset
            assert len(await call.ended()) < 100
        assert world.server.asked.empty()


async def test_a_caller_that_goes_does_not_end_its_run() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        call.reset()
        await until(lambda: not world.gateway.clients)
        instance.release.set()
        assert await within(instance.finished.get()) == "/hold"
        await until(lambda: world.gateway.revisions["org-1", "echo-00001"].busy == 0)


async def test_a_caller_may_close_its_sending_half() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        call.writer.write_eof()
        instance.release.set()
        assert (await call.answer()).status == 200
        assert await call.ended() == b""


async def test_warm_calls_need_no_server() -> None:
    async with create_world() as world:
        assert (await world.call("/agents/echo")).status == 200
        world.server.close()
        assert (await world.call("/agents/echo")).status == 200
        await world.server.start()
        await within(world.server.greeted.get())
        assert json.loads((await world.call("/agents/echo")).body)["target"] == "/"


async def test_a_page_of_an_agent_at_the_api_s_origin_is_given_one_of_its_own() -> None:
    async with create_world() as world:
        by_path = await world.call("/agents/echo")
        assert by_path.headers["content-security-policy"].startswith("sandbox ")
        assert "allow-same-origin" not in by_path.headers["content-security-policy"]
        assert by_path.headers["x-content-type-options"] == "nosniff"
        by_host = await world.call("/", host="echo.acme.localhost")
        assert not {"content-security-policy", "x-content-type-options"} & by_host.headers.keys()
        call = await world.send(request("/agents/echo/die"))
        ending = {"status": 200, "content_type": "text/html"}
        world.server.results.put_nowait(Message({"found": True, "state": "succeeded", "ending": ending}, b"recorded"))
        assert (await call.answer()).headers["content-security-policy"].startswith("sandbox ")


async def test_an_agent_at_the_api_s_origin_neither_sees_nor_sets_its_cookies() -> None:
    async with create_world(access="public") as world:
        for token in ("owner-token", None):
            seen = (await world.call("/agents/echo", token=token, cookie="session=secret")).json()
            assert "cookie" not in seen["headers"]
        assert "set-cookie" not in (await world.call("/agents/echo/cookie")).headers
        by_host = await world.call("/cookie", host="echo.acme.localhost", cookie="own=1")
        assert by_host.headers["set-cookie"] == "own=1"
        call = await world.send(request("/agents/echo/die"))
        ending = {"status": 200, "headers": {"Set-Cookie": "session=mine", "x-own": "1"}}
        world.server.results.put_nowait(Message({"found": True, "state": "succeeded", "ending": ending}, b"recorded"))
        answer = await call.answer()
        assert answer.headers["x-own"] == "1"
        assert "Set-Cookie" not in answer.headers


async def test_answers_of_the_gateway_itself_are_no_pages() -> None:
    async with create_world() as world:
        for path in ("/healthz", "/nothing", "/agents/missing"):
            headers = (await world.call(path, method="GET", token=None)).headers
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "strict-transport-security" not in headers
