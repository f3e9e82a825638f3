"""The journal's socket is in every sandbox: whatever code does with it, the instances of others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control_api.journal import requests, service
from control_api.journal.limits import KIBIBYTE, MEBIBYTE, Limits
from orchestrator_runtime.contract.errors import TooMany
from orchestrator_runtime.contract.wire import LENGTHS, decode, encode
from tests.integration.journal.world import World, admission, world

EVENTUALLY = 20.0  # seconds; a test that waits so long hangs
LIMITS = Limits(unread=64 * KIBIBYTE)


FLOOD = """
import resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = []
print("begun", flush=True)
for number in range(int(sys.argv[2])):
    end = socket.socket(socket.AF_UNIX)
    end.connect(sys.argv[1])
    held.append(end)
    if len(held) > most - 100:
        held.pop(0).close()
print("done", flush=True)
sys.stdin.read()
"""  # not in this process: the journal knows processes
OPEN: list[Hostile] = []


class Hostile:
    """A connection that sends what it likes and reads when it likes."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._loop = asyncio.get_running_loop()
        OPEN.append(self)

    async def send(self, data: bytes) -> None:
        """As far as the other end takes it; nothing is raised if it has closed."""
        with contextlib.suppress(ConnectionError):
            await self._loop.sock_sendall(self._end, data)

    async def hello(self, journal: World, name: str = "hostile") -> None:
        await self.send(encode({"op": "hello", "id": 1, "protocol": 1, "token": journal.token(name)}))
        assert (await self.reply())[0] == {"re": 1, "protocol": 1}

    async def reply(self) -> tuple[dict[str, Any], bytes]:
        """The next frame."""
        header, body = LENGTHS.unpack(await self._exactly(LENGTHS.size))
        return json.loads(await self._exactly(header)), await self._exactly(body)

    async def rest(self) -> list[tuple[dict[str, Any], bytes]]:
        """All frames that come until the other end closes."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):  # it did not read what we had sent
            async with asyncio.timeout(EVENTUALLY):
                while data := await self._loop.sock_recv(self._end, MEBIBYTE):
                    received += data
        return list(decode(received))

    async def why_closed(self) -> str:
        header, _ = (await self.rest())[-1]
        assert header["op"] == "refused"
        return str(header["error"]["code"])

    def close(self) -> None:
        self._end.close()

    async def _exactly(self, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(EVENTUALLY):
            while len(data) < size:
                data += await self._loop.sock_recv(self._end, size - len(data))
        return data


@asynccontextmanager
async def attacked(url: str, **limits: Any) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        async with world(url, Path(folder) / "j.sock", limits=replace(LIMITS, **limits)) as running:
            try:
                yield running
            finally:
                for hostile in OPEN:
                    hostile.close()
                OPEN.clear()


async def attack(journal: World) -> Hostile:
    end = socket.socket(socket.AF_UNIX)
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, str(journal.path))
    return Hostile(end)


async def expect_service(journal: World, run: str = "honest", body: bytes = b"in") -> None:
    """An honest instance, which connects now, gets its run admitted and ended."""
    async with asyncio.timeout(EVENTUALLY):
        instance = await journal.instance(f"i-{run}")
        await instance.admit(run, body)
        assert (await instance.end(run)).fields["state"] == "succeeded"


def until(happened: Callable[[], bool]) -> asyncio.Task[None]:
    async def look() -> None:
        async with asyncio.timeout(EVENTUALLY):
            while not happened():
                await asyncio.sleep(0)

    return asyncio.create_task(look())


@pytest.fixture
def url(sqlite_template: Callable[[], str]) -> str:
    return sqlite_template()


async def test_a_large_frame_before_hello_is_refused_when_its_length_has_come(url: str) -> None:
    async with attacked(url) as journal:
        hostile = await attack(journal)
        flood = asyncio.create_task(hostile.send(LENGTHS.pack(100, 200 * MEBIBYTE) + bytes(200 * MEBIBYTE)))
        await expect_service(journal)
        assert await hostile.why_closed() == "frame_too_large"
        await flood


async def test_before_hello_nothing_is_kept_beyond_one_small_frame(url: str) -> None:
    async with attacked(url, unanswered=1) as journal:
        hostile = await attack(journal)
        frame = encode({"op": "recorded", "id": 1, "run": "r"}, bytes(40 * KIBIBYTE))
        await hostile.send(frame[:-1] + bytes(80 * KIBIBYTE))
        assert await hostile.why_closed() in ("frame_too_large", "frame_not_json")
        await expect_service(journal)


async def test_half_a_frame_is_not_waited_for(url: str) -> None:
    async with attacked(url, hello_timeout=0.1, frame_timeout=0.1) as journal:
        early, late = await attack(journal), await attack(journal)
        await early.send(encode({"op": "hello", "id": 1})[:-3])
        await late.hello(journal)
        await late.send(encode({"op": "admit", "id": 2}, bytes(MEBIBYTE))[:-3])
        await expect_service(journal)
        assert await early.why_closed() == "journal_hello_missing"
        assert await late.why_closed() == "frame_incomplete"


async def test_of_connections_that_do_not_say_hello_the_oldest_go(url: str) -> None:
    async with attacked(url, early_connections=64) as journal:
        hostile = [await attack(journal) for _ in range(164)]
        await expect_service(journal)
        assert [await one.why_closed() for one in hostile[:100]] == ["journal_crowded"] * 100
        await hostile[-1].hello(journal)  # the newest were left in peace


async def test_five_thousand_connections_keep_no_instance_out(url: str) -> None:
    async with attacked(url, early_connections=128) as journal:
        flood = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FLOOD, str(journal.path), "5000"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert flood.stdout is not None
        assert await flood.stdout.readline() == b"begun\n"
        for number in range(20):
            await expect_service(journal, f"r-{number}")
        assert await flood.stdout.readline() == b"done\n"
        await expect_service(journal)
        await flood.communicate(b"end")


async def test_an_instance_has_only_so_many_connections(url: str) -> None:
    async with attacked(url, connections=2) as journal:
        first, second, third = [await attack(journal) for _ in range(3)]
        await first.hello(journal)
        await second.hello(journal)
        await third.send(encode({"op": "hello", "id": 1, "protocol": 1, "token": journal.token("hostile")}))
        assert (await third.reply())[0]["error"]["code"] == "journal_connections"
        assert await third.why_closed() == "journal_connections"
        first.close()
        await expect_service(journal)
        await (await attack(journal)).hello(journal)


async def test_who_never_reads_is_not_answered_on_and_on(url: str) -> None:
    async with attacked(url, unread_timeout=0.2) as journal:
        owner = await journal.instance("hostile")
        await owner.admit("large")
        await owner.end("large", body=b"x" * MEBIBYTE)
        hostile = await attack(journal)
        await hostile.hello(journal)
        asked = [encode({"op": "admit", "id": number, **admission("large")}, b"in") for number in range(2, 1000)]
        flood = asyncio.create_task(hostile.send(b"".join(asked)))
        await expect_service(journal)
        await owner.peer.call("recorded", {"run": "large"})  # its other connections are served, too
        await flood  # ends when the connection was broken
        assert len(await hostile.rest()) < 10


async def test_replies_that_are_not_read_stop_their_making(url: str) -> None:
    async with attacked(url, unread_timeout=EVENTUALLY) as journal:
        owner = await journal.instance("hostile")
        await owner.admit("large")
        await owner.end("large", body=b"x" * MEBIBYTE)
        fetched: list[str] = []
        fetch = journal.journal.database.read

        async def counted(work: Any) -> Any:
            fetched.append("")
            return await fetch(work)

        journal.journal.database.read = counted  # type: ignore[method-assign]
        hostile = await attack(journal)
        await hostile.hello(journal)
        asked = [encode({"op": "admit", "id": number, **admission("large")}, b"in") for number in range(2, 200)]
        asking = asyncio.create_task(hostile.send(b"".join(asked)))
        await expect_service(journal)
        await until(lambda: len(fetched) > 1)
        await expect_service(journal, "another")
        assert len(fetched) < 10
        for number in range(2, 200):  # it reads at last, and gets everything
            header, body = await hostile.reply()
            assert (header["re"], body) == (number, b"x" * MEBIBYTE)
        await asking


async def test_what_one_instance_announces_takes_nothing_from_the_shares_of_others(url: str) -> None:
    async with attacked(url, share=64 * KIBIBYTE, pool=MEBIBYTE, frame_timeout=0.3) as journal:
        hostile = await attack(journal)
        await hostile.hello(journal)
        await hostile.send(LENGTHS.pack(2, 100 * MEBIBYTE) + b"{}")
        await hostile.send(bytes(MEBIBYTE))
        await expect_service(journal)
        await expect_service(journal, "large", bytes(2 * MEBIBYTE))  # waits until the announced frame is given up
        assert await hostile.why_closed() == "frame_incomplete"


async def test_large_inputs_that_do_not_fit_at_once_are_taken_one_after_the_other(url: str) -> None:
    async with attacked(url, share=64 * KIBIBYTE, pool=3 * MEBIBYTE) as journal:
        instances = [await journal.instance(f"i-{number}") for number in range(6)]
        admitting = [one.admit(f"r-{number}", bytes(2 * MEBIBYTE)) for number, one in enumerate(instances)]
        assert [reply.fields["outcome"] for reply in await asyncio.gather(*admitting)] == ["started"] * 6


async def test_more_operations_than_are_taken_at_once_are_all_done_in_their_order(url: str) -> None:
    async with attacked(url, unanswered=16) as journal:
        instance = await journal.instance()
        admitted = await asyncio.gather(*[instance.start_admit(f"r-{number}") for number in range(2000)])
        assert [reply.fields["run"] for reply in admitted] == [f"r-{number}" for number in range(2000)]
        ended = await asyncio.gather(*[instance.end(f"r-{number}") for number in range(2000)])
        assert {reply.fields["state"] for reply in ended} == {"succeeded"}


async def test_calls_that_wait_for_a_session_do_not_keep_out_what_they_wait_for(url: str) -> None:
    async with attacked(url, unanswered=8) as journal:
        instance = await journal.instance()
        await instance.admit("r-00", session="s")
        waiting = [instance.start_admit(f"r-{number:02}", session="s") for number in range(1, 41)]
        await instance.in_order()
        for number, admitted in enumerate(waiting):
            assert not admitted.done()
            await instance.end(f"r-{number:02}")
            assert (await admitted).fields["outcome"] == "started"


async def test_only_so_many_calls_wait_for_sessions(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_PARKED", 2)
    async with attacked(url) as journal:
        instance = await journal.instance()
        await instance.admit("r-0", session="s")
        first, second, third = [instance.start_admit(f"r-{number}", session="s") for number in range(1, 4)]
        with pytest.raises(TooMany):
            await third
        await instance.end("r-0")
        assert (await first).fields["outcome"] == "started"
        again = instance.start_admit("r-3", session="s")  # there is room for one more
        await instance.end("r-1")
        await second
        await instance.end("r-2")
        assert (await again).fields["outcome"] == "started"


@pytest.mark.parametrize("header", [{"op": []}, {"op": {}, "id": 2}, {"re": []}, {"re": 7, "error": 1}, {}, {"id": []}])
async def test_frames_that_mean_nothing_cost_nobody_anything(url: str, header: dict[str, Any]) -> None:
    async with attacked(url, share=64 * KIBIBYTE, pool=MEBIBYTE) as journal:
        hostile = await attack(journal)
        await hostile.hello(journal)
        for _ in range(3):
            await hostile.send(encode(header, bytes(MEBIBYTE)))
        await expect_service(journal, body=bytes(MEBIBYTE))
        await hostile.send(encode({"op": "session.get", "id": 3, "session": "none"}))
        while (reply := (await hostile.reply())[0])["re"] != 3:
            assert reply["error"]["code"] == "unknown_operation"
        assert reply["found"] is False


@pytest.mark.parametrize(
    "odd", ['"half \\ud800"', '{"a": "\\uDFFF"}', "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300]
)
async def test_what_no_database_takes_is_refused_before_it_comes_into_a_batch_with_others(url: str, odd: str) -> None:
    async with attacked(url) as journal:
        hostile = await attack(journal)
        await hostile.hello(journal)
        asked = {"op": "admit", "id": 2, **admission("r-1", request={"odd": "HERE"})}
        header = json.dumps(asked).replace('"HERE"', odd).encode()
        await hostile.send(LENGTHS.pack(len(header), 0) + header)
        assert (await hostile.reply())[0]["error"]["code"] == "request_invalid"
        await hostile.send(encode({**asked, "request": {"fine": "ü\n\x01", "nested": [[]] * 300}}))
        assert (await hostile.reply())[0]["outcome"] == "started"


async def test_a_defect_of_a_handler_costs_its_connection_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a defect")

    monkeypatch.setitem(requests.WRITES, "wait", broken)
    async with attacked(url, share=64 * KIBIBYTE, pool=MEBIBYTE) as journal:
        hostile = await attack(journal)
        await hostile.hello(journal)
        await hostile.send(encode({"op": "wait", "id": 2}, bytes(MEBIBYTE)))
        assert await hostile.why_closed() == "internal"
        await expect_service(journal, body=bytes(MEBIBYTE))


async def test_large_bodies_that_were_stored_are_given_again(url: str) -> None:
    async with attacked(url) as journal:
        instance = await journal.instance()
        await journal.submit("r-1", b"i" * MEBIBYTE)
        for _ in range(2):  # the second time because the reply was lost
            assert (await instance.take("r-1")).body == b"i" * MEBIBYTE
        await instance.end("r-1", body=b"o" * MEBIBYTE)
        assert (await instance.admit("r-1")).body == b"o" * MEBIBYTE


async def test_nobody_can_fill_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with attacked(url) as journal:
        for _ in range(50):
            hostile = await attack(journal)
            await hostile.send(LENGTHS.pack(2, MEBIBYTE))
            assert await hostile.why_closed() == "frame_too_large"
        journal.clock.advance(60)
        await (hostile := await attack(journal)).send(LENGTHS.pack(2, MEBIBYTE))
        await hostile.why_closed()
        lines = [record for record in caplog.records if record.name == "journal"]
        assert [(line.levelno, line.connections) for line in lines] == [(logging.WARNING, 1), (logging.WARNING, 50)]  # type: ignore[attr-defined]
