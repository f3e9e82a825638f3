"""One call of a small agent in a zygote, before it forks, answered by a journal that keeps nothing.

What Python and a framework do once – code that specialises itself, caches of types, modules imported by the first
call – is then done, and shared by all instances, where each would pay for it with its first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path

import uvloop

from orchestrator_runtime.contract import headers
from orchestrator_runtime.contract.ids import uuid7
from orchestrator_runtime.contract.instance import InstanceStart, Limits
from orchestrator_runtime.contract.wire import Handler, Message, Peer
from orchestrator_runtime.frameworks import entrypoint
from orchestrator_runtime.frameworks.adapter import Agent
from orchestrator_runtime.server import Server

MODULE = "orchestrator_rehearsal"  # the agent's; forgotten afterwards
TOKEN = "rehearsal"  # noqa: S105 - nobody else can reach it
PATIENCE = 20.0  # seconds

PLAIN = """
async def agent(input):
    return input
"""
LANGGRAPH = """
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    text: str
    words: list[str]


async def first(state: State) -> State:
    return {"words": [state["text"]]}


async def second(state: State) -> State:
    return {"text": "".join(state["words"])}


builder = StateGraph(State)
builder.add_node("first", first)
builder.add_node("second", second)
builder.add_edge(START, "first")
builder.add_edge("first", "second")
builder.add_edge("second", END)
agent = builder.compile()
"""
AGENTS = {"plain": PLAIN, "langgraph": LANGGRAPH}
"""Only functions that are coroutines: a thread would not survive the fork."""

_BODY = b'{"text":"rehearsal"}'
_REQUEST = (
    b"POST / HTTP/1.1\r\nhost: rehearsal\r\nuser-agent: rehearsal\r\naccept: */*\r\ncontent-type: application/json\r\n"
    b"%b: %b\r\n%b: %b\r\n%b: %b\r\ncontent-length: %d\r\n\r\n%b"
)


def rehearse(framework: str) -> bool:
    """Whether an agent of this framework has answered; what went wrong is printed. Plain where there is no agent.

    Leaves no thread, descriptor, event loop, module or file behind.
    """
    loop = uvloop.new_event_loop()
    handled = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            loop.run_until_complete(asyncio.wait_for(_rehearse(framework, Path(folder)), PATIENCE))
    except Exception:  # noqa: BLE001 - a package may raise anything; an agent that meets it will say so itself
        traceback.print_exc()
        return False
    finally:
        loop.close()
        for number, handler in handled.items():
            signal.signal(number, handler)
    return True


async def _rehearse(framework: str, folder: Path) -> None:
    kind = framework if framework in AGENTS else "plain"
    start = _start(kind)
    agent = _load(start, folder)
    server = Server(start, journal=str(folder / "journal"), redact=str, end_output=lambda run: None)
    listen = socket.socket(socket.AF_UNIX)
    listen.bind(str(folder / "instance"))
    listen.listen()
    ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop = asyncio.get_running_loop()
    with ours, control, listen:
        journal = await loop.create_unix_server(lambda: Peer(HANDLERS), str(folder / "journal"))
        serving = loop.create_task(server.run(agent, listen=listen, control=control))
        try:
            for _ in range(2):
                await _call(folder / "instance")
        finally:
            server.drain()
            await serving
            journal.close()
            await asyncio.sleep(0)  # what was closed has gone


def _start(framework: str) -> InstanceStart:
    return InstanceStart(
        instance="rehearsal",
        organization="rehearsal",
        agent="rehearsal",
        revision="rehearsal",
        version="",
        framework=framework,
        entrypoint=f"{MODULE}:agent",
        limits=Limits(memory_bytes=0, cpu=1),
        concurrency=0,
        timeout=PATIENCE,
        grace=PATIENCE,
        payload_limit=1024,
        call_token=TOKEN,
        journal_token=TOKEN,
    )


def _load(start: InstanceStart, folder: Path) -> Agent:
    (folder / f"{MODULE}.py").write_text(AGENTS[start.framework])
    sys.path.insert(0, str(folder))
    try:
        return entrypoint.load(start, source=folder)
    finally:
        sys.path.remove(str(folder))
        sys.path_importer_cache.pop(str(folder), None)
        sys.modules.pop(MODULE, None)


async def _call(path: Path) -> None:
    """Raises `ValueError` for any answer but what the agent gives."""
    reader, writer = await asyncio.open_unix_connection(path)
    with contextlib.closing(writer):
        fields = ((headers.CALL_TOKEN, TOKEN), (headers.RUN_ID, uuid7()), (headers.CALLER, TOKEN))
        named = [text.encode() for field in fields for text in field]
        writer.write(_REQUEST % (*named, len(_BODY), _BODY))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
    if b" 200 " not in head or json.loads(body).get("text") != "rehearsal":
        raise ValueError(f"the rehearsal was answered with {head!r} {body!r}")


def _admit(_: Peer, message: Message) -> Message:
    return Message({"run": message.fields["run"], "outcome": "started", "epoch": 1, "attempt": 1})


def _nothing(_: Peer, message: Message) -> Message:
    return Message({"found": False, "seq": 1, "state": "succeeded"})


HANDLERS: dict[str, Handler] = {
    "admit": _admit,
    **dict.fromkeys(("hello", "append", "end", "checkpoint.get", "checkpoint.put", "checkpoint.writes"), _nothing),
}
