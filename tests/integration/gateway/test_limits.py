"""What is refused, queued, timed out and scaled, with time in the test's hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from local.gateway.settings import Limits
from orchestrator_runtime.contract.wire import Message
from tests.fakes import instance_server
from tests.fakes.control_server import create_revision, create_route
from tests.fakes.instance_server import FakeInstance
from tests.integration.gateway.world import Call, World, create_world, request, until, within


def one_at_a_time(**scale: object) -> dict[str, object]:
    return {"echo-00001": create_revision(concurrency_limit=1, max=1, **scale)}  # type: ignore[arg-type]


async def test_calls_wait_in_order_when_all_instances_are_busy() -> None:
    async with create_world(revisions=one_at_a_time()) as world:
        calls = []
        for number in range(3):
            calls.append(await world.send(request(f"/agents/echo/hold?{number}")))
            revision = world.gateway.revisions["org-1", "echo-00001"]
            await until(lambda number=number, revision=revision: revision.busy == number + 1)  # type: ignore[misc]
        instance = await world.started()
        instance.release.set()
        assert [(await call.answer()).json()["target"] for call in calls] == ["/hold?0", "/hold?1", "/hold?2"]


async def test_a_full_queue_is_503() -> None:
    async with create_world(revisions=one_at_a_time(), limits=replace(Limits(), queue_depth=1)) as world:
        revision = world.gateway.revisions["org-1", "echo-00001"]
        held = await world.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        queued = await world.send(request("/agents/echo/hold"))
        await until(lambda: len(revision.waiting) == 1)
        refused = await world.call("/agents/echo/hold")
        assert (refused.status, refused.json()["detail"]) == (503, "pending request queue full")
        assert refused.headers["retry-after"] == "1"
        instance.release.set()
        assert [(await held.answer()).status, (await queued.answer()).status] == [200, 200]


async def test_bodies_that_wait_for_the_server_or_an_instance_share_one_budget() -> None:
    limits = replace(Limits(), waiting_bytes=10_000)
    async with create_world(revisions=one_at_a_time(), limits=limits) as world:
        held = await world.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        budget = world.gateway.bodies
        world.server.commits.clear()
        submitted = await world.send(request("/agents/echo", body=bytes(6000), prefer="respond-async"))
        queued = await world.send(request("/agents/echo", body=bytes(3000)))
        await until(lambda: budget.held == 9000)
        for prefer in ("respond-async", "wait=1"):
            refused = await world.call("/agents/echo", body=bytes(2000), prefer=prefer)
            assert (refused.status, refused.json()["code"]) == (503, "bodies_full")
            assert refused.headers["retry-after"] == "1"
        assert (await world.send(request("/agents/echo", body=bytes(500), prefer="respond-async"))) is not None
        await until(lambda: budget.held == 9500)
        world.server.commits.set()
        assert (await submitted.answer()).status == 202
        instance.release.set()
        assert [(await held.answer()).status, (await queued.answer()).status] == [200, 200]
        assert budget.held == 0
        assert (await world.call("/agents/echo", body=bytes(9000), prefer="respond-async")).status == 202


async def test_a_body_that_does_not_come_to_its_end_is_not_kept() -> None:
    async with create_world() as world:
        budget = world.gateway.bodies
        for leave in (Call.reset, Call.close):
            half = request("/agents/echo", body=bytes(6000), prefer="respond-async")[:-10]
            call = await world.send(half)
            await until(lambda: budget.held == 5990)
            leave(call)
            await until(lambda: budget.held == 0)
        assert world.server.submitted == []


@pytest.mark.parametrize("leave", [Call.reset, Call.close])
async def test_a_caller_that_leaves_the_queue_is_never_sent(leave: Callable[[Call], None]) -> None:
    async with create_world(revisions=one_at_a_time()) as world:
        revision = world.gateway.revisions["org-1", "echo-00001"]
        held = await world.send(request("/agents/echo/hold?first"))
        instance = await world.started()
        await within(instance.arrived.get())
        leaving = await world.send(request("/agents/echo/hold?leaves"))
        await until(lambda: len(revision.waiting) == 1)
        leave(leaving)
        await until(lambda: not revision.waiting)
        instance.release.set()
        assert (await held.answer()).status == 200
        assert [received.target for received in instance.received] == ["/hold?first"]


async def test_a_run_that_takes_too_long_is_504_and_goes_on() -> None:
    async with create_world(revisions={"echo-00001": create_revision(timeout=5.0)}) as world:
        call = await world.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        world.pass_time(6)
        answer = await call.answer()
        assert (answer.status, answer.json()["detail"]) == (504, "request timeout")
        instance.release.set()
        assert await within(instance.finished.get()) == "/hold"


async def test_a_stream_that_takes_too_long_is_cut() -> None:
    async with create_world(revisions={"echo-00001": create_revision(timeout=5.0)}) as world:
        call = await world.send(request("/agents/echo/sse"))
        await call.head()
        await call.piece()
        world.pass_time(6)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await call.piece()


async def test_waiting_for_an_instance_too_long_is_504() -> None:
    async with create_world(revisions={"echo-00001": create_revision(timeout=5.0)}) as world:
        world.supervisor.may_start.clear()
        call = await world.send(request("/agents/echo"))
        await until(lambda: world.gateway.open_calls == 1)
        world.pass_time(6)
        answer = await call.answer()
        assert (answer.status, answer.json()["code"]) == (504, "activation_timeout")


async def test_a_body_above_the_agents_limit_is_413_before_it_is_sent() -> None:
    async with create_world(payload_limit=10) as world:
        announced = await world.send(
            b"POST /agents/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner-token\r\n"
            b"content-length: 11\r\nexpect: 100-continue\r\n\r\n"
        )
        answer = await announced.answer()
        assert (answer.status, answer.json()["limit"]) == (413, 10)
        assert await announced.ended() == b""
        chunked = await world.send(
            b"POST /agents/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner-token\r\n"
            b"transfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n"
        )
        assert (await chunked.answer()).status == 413


async def test_a_head_that_does_not_come_is_408_and_an_idle_connection_is_closed() -> None:
    async with create_world() as world:
        slow = await world.send(b"GET / HTTP/1.1\r\nho")
        idle = await world.connect()
        await until(lambda: len(world.gateway.clients) == 2)
        await until(lambda: any(client._head_since for client in world.gateway.clients))
        world.pass_time(16)
        assert (await slow.answer()).status == 408
        world.pass_time(60)
        assert await idle.ended() == b""


async def test_a_body_that_stops_is_408() -> None:
    async with create_world() as world:
        call = await world.send(
            b"POST /agents/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner-token\r\ncontent-length: 9\r\n\r\nab"
        )
        await world.started()
        world.server.push(create_route(timeout=600.0, revisions={"echo-00001": create_revision(timeout=600.0)}))
        world.gateway.clients.copy().pop().exchange.deadline = float("inf")  # type: ignore[union-attr]
        world.pass_time(61)
        assert (await call.answer()).status == 408


@pytest.mark.parametrize(
    "bad",
    [
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\n\n",
        b"garbage\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_400_and_the_connection_ends(bad: bytes) -> None:
    async with create_world() as world:
        call = await world.send(bad + request("/agents/echo"))
        answer = await call.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await call.ended() == b""
        assert world.supervisor.started.empty()


async def test_a_good_request_before_a_bad_one_is_still_answered() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo") + b"garbage\r\n\r\n")
        assert (await call.answer()).status == 200
        assert (await call.answer()).status == 400


async def test_load_brings_more_instances_and_idleness_takes_them_all() -> None:
    revisions = {"echo-00001": create_revision(target=1, target_utilization=100, concurrency_limit=10, window=6.0)}
    async with create_world(revisions=revisions) as world:
        revision = world.gateway.revisions["org-1", "echo-00001"]
        calls = [await world.send(request("/agents/echo/hold")) for _ in range(4)]
        await until(lambda: revision.busy == 4)
        first = await world.started()
        world.pass_time(2)
        await until(lambda: len(revision.ready) == 4)
        for instance in world.supervisor.instances.values():
            instance.release.set()
        first.release.set()
        assert [(await call.answer()).status for call in calls] == [200] * 4
        world.pass_time(6 + 6 + 30 + 3)
        await until(lambda: not world.supervisor.instances)
        assert revision.asleep
        assert (await world.call("/agents/echo")).status == 200


async def probe(world: World, instance: FakeInstance) -> None:
    """One round of probes, to its end."""
    revision = world.gateway.revisions["org-1", "echo-00001"]

    def failed() -> list[int]:
        return [one.failed_probes for one in revision.ready]

    before = failed()
    world.gateway.probe()
    await until(lambda: failed() != before if instance.deaf else failed() == [0])


async def test_an_idle_instance_that_answers_no_probe_three_times_is_replaced() -> None:
    async with create_world() as world:
        await world.call("/agents/echo")
        instance = await world.started()
        instance.deaf = True
        await probe(world, instance)
        await probe(world, instance)
        assert world.supervisor.stopped.empty()
        await probe(world, instance)
        assert await within(world.supervisor.stopped.get()) == instance.id
        assert (await world.call("/agents/echo")).json()["instance"] != instance.id


async def test_an_instance_that_answers_in_between_stays() -> None:
    async with create_world() as world:
        await world.call("/agents/echo")
        instance = await world.started()
        for deaf in (True, True, False, True, True):
            instance.deaf = deaf
            await probe(world, instance)
        assert world.supervisor.stopped.empty()
        assert (await world.call("/agents/echo")).json()["instance"] == instance.id


async def test_an_instance_that_works_is_not_probed() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        world.gateway.probe()
        instance.release.set()
        assert (await call.answer()).status == 200
        assert instance.probed == 0


async def test_a_revision_that_is_not_served_any_more_is_stopped() -> None:
    async with create_world() as world:
        await world.call("/agents/echo")
        await world.push()
        assert await within(world.supervisor.stopped.get()) == "echo-00001-1"
        assert (await world.call("/agents/echo")).status == 404


async def test_instances_that_are_there_already_are_used() -> None:
    async with create_world() as before:
        instance = await before.supervisor.launch("org-1", "echo-00001")
        before.gateway._adopt(before.supervisor._info(instance))
        assert (await before.call("/agents/echo")).json()["instance"] == instance.id
        assert before.supervisor.started.qsize() == 1


async def test_draining_answers_open_calls_and_closes_idle_connections() -> None:
    async with create_world() as world:
        idle = await world.connect()
        call = await world.send(request("/agents/echo/hold"))
        instance = await world.started()
        await within(instance.arrived.get())
        world.gateway.draining = True
        for client in list(world.gateway.clients):
            client.close()
        assert await idle.ended() == b""
        instance.release.set()
        assert (await call.answer()).status == 200
        await within(world.gateway.quiet())


async def read_slowly(world: World, size: int) -> None:
    """Call for an answer of `size` bytes, and read it a little at a time."""
    loop = asyncio.get_running_loop()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await loop.sock_connect(slow, ("127.0.0.1", world.port))
        await loop.sock_sendall(slow, request("/agents/echo/large"))
        await until(lambda: any(client.full for client in world.gateway.clients))
        received = 0
        while received < size:
            received += len(await loop.sock_recv(slow, 65536))


@pytest.mark.parametrize("size", range(300_000, 600_000, 50_000))
async def test_a_slow_reader_leaves_a_connection_that_others_can_use(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Whatever of its answer is still to be read when the last of it has left the instance."""
    monkeypatch.setattr(instance_server, "LARGE", b"x" * size)
    async with create_world() as world:
        await read_slowly(world, size)
        assert (await world.call("/agents/echo")).status == 200


async def test_a_reader_that_stops_holds_its_instance_no_longer_than_its_call_may_take() -> None:
    async with create_world(revisions={"echo-00001": create_revision(timeout=5.0)}) as world:
        call = await world.send(request("/agents/echo/large"))
        call.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of a connection reads
        instance = await world.started()
        await until(lambda: any(client.full for client in world.gateway.clients))
        world.pass_time(6)
        assert await within(instance.finished.get()) == "/large"
        revision = world.gateway.revisions["org-1", "echo-00001"]
        await until(lambda: not revision.busy)


async def test_a_reader_that_stops_does_not_make_the_next_answer_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_server, "LARGE", b"x" * 600_000)
    async with create_world() as world:
        call = await world.send(request("/agents/echo/large"))
        call.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of a connection reads
        instance = await world.started()
        await until(lambda: any(client.full for client in world.gateway.clients))
        client = next(iter(world.gateway.clients))
        client.exchange.caller_drained()  # type: ignore[union-attr] # as if there were more room for this one
        await within(instance.finished.get())
        monkeypatch.setattr(instance_server, "LARGE", b"x" * 4_000_000)
        call.send(request("/agents/echo/large"))
        await until(lambda: len(instance.received) == 2)
        before = client._transport.get_write_buffer_size()  # type: ignore[union-attr]
        for _ in range(200):
            await asyncio.sleep(0)
        assert client._transport.get_write_buffer_size() == before  # type: ignore[union-attr]
        call.reset()
        await within(instance.finished.get())


async def test_a_connection_whose_end_is_never_read_is_cut() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/large", connection="close"))
        call.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of a connection reads
        instance = await world.started()
        await until(lambda: any(client.full for client in world.gateway.clients))
        next(iter(world.gateway.clients)).exchange.caller_drained()  # type: ignore[union-attr] # the rest is ours now
        await within(instance.finished.get())
        await until(lambda: not world.gateway.open_calls)
        assert world.gateway.clients
        world.pass_time(77)
        await until(lambda: not world.gateway.clients)


async def test_a_head_may_begin_in_the_bytes_that_end_a_large_body() -> None:
    async with create_world() as world:
        first, second = request("/agents/echo", body=b"x" * 200_000), request("/agents/echo/next")
        call = await world.send(first + second[:30])
        assert (await call.answer()).status == 200
        call.send(second[30:])
        assert (await call.answer()).json()["target"] == "/next"


async def test_a_trailer_without_end_is_431() -> None:
    async with create_world() as world:
        call = await world.send(
            b"POST /agents/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner-token\r\n"
            b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 300_000
        )
        assert (await call.answer()).status == 431


async def test_an_answer_whose_head_has_no_end_is_not_taken() -> None:
    async with create_world() as world:
        call = await world.send(request("/agents/echo/endless"))
        world.server.results.put_nowait(Message({"found": True, "state": "failed", "ending": {"status": 500}}))
        assert (await call.answer()).status == 500
