"""What the socket refuses: wrong tokens, old protocols, malformed members. The connection outlives it."""

from __future__ import annotations

from typing import Any

import pytest

from control_api.journal.tokens import Identity, Tokens
from orchestrator_runtime.contract.errors import BadInput, Problem
from tests.integration.journal.world import REQUEST, World

ATTEMPT = {"run": "r-1", "epoch": 1}
CHECKPOINT = {
    **ATTEMPT,
    "thread": "t",
    "namespace": "",
    "checkpoint": "1",
    "parent": None,
    "body": {"type": "json", "part": 0},
    "metadata": {},
    "projection": None,
    "channels": {},
    "values": [],
    "parts": [0],
}
ADMISSION = {"run": "r-1", "trigger": "http", "request": REQUEST, "deadline": 5.0, "correlation": "c"}
WRITES = {**ATTEMPT, "thread": "t", "namespace": "", "checkpoint": "1", "task": "k", "writes": [], "parts": []}
EVENT = {"kind": "log", "at": 1.0}

MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("hello", {"token": "x"}),
    ("admit", {**ADMISSION, "run": None}),
    ("admit", {**ADMISSION, "run": "nul\0"}),
    ("admit", {**ADMISSION, "deadline": "soon"}),
    ("admit", {**ADMISSION, "deadline": float("inf")}),
    ("admit", {**ADMISSION, "request": []}),
    ("admit", {**ADMISSION, "key": 7}),
    ("append", {**ATTEMPT, "events": {}}),
    ("append", {**ATTEMPT, "events": [{"kind": "run.succeeded", "at": 1.0}]}),
    ("append", {**ATTEMPT, "events": [{"kind": "log"}]}),
    ("append", {**ATTEMPT, "events": [{**EVENT, "part": 0}]}),
    ("append", {**ATTEMPT, "events": [{**EVENT, "step": 5}]}),
    ("append", {**ATTEMPT, "events": [{**EVENT, "call": []}]}),
    ("append", {**ATTEMPT, "events": [{**EVENT, "data": 1}]}),
    ("append", {**ATTEMPT, "events": [{**EVENT, "name": "nul\0"}]}),
    ("append", {**ATTEMPT, "events": [{**EVENT, "at": float("nan")}]}),
    ("append", {**ATTEMPT, "events": [{**EVENT, "at": 1e300}]}),
    ("append", {**ATTEMPT, "events": [], "batch": "one"}),
    ("append", {**ATTEMPT, "events": [], "batch": 2**31}),
    ("append", {**ATTEMPT, "events": [], "parts": 5}),
    ("append", {**ATTEMPT, "events": [], "parts": ["x"]}),
    ("append", {**ATTEMPT, "events": [], "parts": [1]}),
    ("append", {**ATTEMPT, "events": [], "parts": [-1]}),
    ("append", {"run": "r-1", "epoch": True, "events": []}),
    ("end", {**ATTEMPT, "state": "running", "status": 200}),
    ("end", {**ATTEMPT, "state": [], "status": 200}),
    ("end", {**ATTEMPT, "state": "failed", "status": "bad"}),
    ("end", {**ATTEMPT, "state": "failed", "status": 10**30}),
    ("end", {**ATTEMPT, "state": "failed", "status": 500, "problem": "bad"}),
    ("wait", {**ATTEMPT, "reason": "session", "until": 1.0}),
    ("wait", {**ATTEMPT, "reason": "retry", "until": None}),
    ("checkpoint.put", {**CHECKPOINT, "body": {"type": "json", "part": 1}}),
    ("checkpoint.put", {**CHECKPOINT, "channels": {"a": 1}}),
    ("checkpoint.put", {**CHECKPOINT, "parts": 7}),
    ("checkpoint.put", {**CHECKPOINT, "values": [{"channel": "a", "version": "1", "form": "tree", "elements": []}]}),
    ("checkpoint.put", {**CHECKPOINT, "metadata": None}),
    ("checkpoint.writes", {**WRITES, "writes": [{"index": 0, "channel": "c", "type": "t", "part": 0}]}),
    ("checkpoint.writes", {**WRITES, "writes": "none"}),
    ("checkpoint.list", {"filter": ["step"]}),
    ("checkpoint.list", {"limit": "all"}),
    ("checkpoint.get", {"thread": "t"}),
    ("session.get", {}),
    ("session.put", ATTEMPT),
    ("recorded", {}),
]


@pytest.mark.parametrize(("operation", "fields"), MALFORMED)
async def test_malformed_requests_are_refused_one_by_one(
    journal: World, operation: str, fields: dict[str, Any]
) -> None:
    instance = await journal.instance()
    await instance.admit("r-1")
    with pytest.raises(BadInput):
        await instance.peer.call(operation, fields)
    assert (await instance.end("r-1")).fields["state"] == "succeeded"


@pytest.mark.parametrize("token", ["", "x", "x.y", "é.é", "e30.e30", "a.b.c"])
async def test_a_token_that_is_not_ours_is_refused(journal: World, token: str) -> None:
    instance = await journal.instance(greets=False)
    with pytest.raises(Problem) as refused:
        await instance.call("hello", protocol=1, token=token)
    assert refused.value.code == "journal_token_invalid"


async def test_tokens_of_another_key_or_time_are_refused(journal: World) -> None:
    instance = await journal.instance(greets=False)
    identity = Identity("org-1", "echo", "echo-00001", "i-1")
    forged, _ = Tokens(b"other" * 8, clock=journal.clock).mint(identity)
    with pytest.raises(Problem) as refused:
        await instance.call("hello", protocol=1, token=forged)
    assert refused.value.code == "journal_token_invalid"
    token = journal.token("i-1")
    journal.clock.advance(24 * 3600)
    with pytest.raises(Problem) as refused:
        await instance.call("hello", protocol=1, token=token)
    assert refused.value.code == "journal_token_expired"


async def test_a_newer_runtime_is_told_what_is_spoken_and_a_too_old_one_is_refused(journal: World) -> None:
    instance = await journal.instance(greets=False)
    assert (await instance.call("hello", protocol=9, token=journal.token("i-1"))).fields["protocol"] == 1
    with pytest.raises(BadInput) as refused:
        await instance.call("hello", protocol=0, token=journal.token("i-1"))
    assert refused.value.code == "protocol_too_old"
