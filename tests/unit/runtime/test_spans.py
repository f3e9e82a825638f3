"""Spans on their way: what is none is refused, and too much of one is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator_runtime.contract.errors import BadInput
from orchestrator_runtime.contract.spans import AT_ONCE, ATTRIBUTES, BYTES, INTERNAL, TEXT, Span, dump, parse

SPAN = Span("look", INTERNAL, "a" * 32, "b" * 16, "", {"tokens": 3, "share": 0.5, "is_cached": True}, began=1, ended=2)


def changed(**members: Any) -> bytes:
    return json.dumps([{**json.loads(dump([SPAN]))[0], **members}]).encode()


def test_spans_come_as_they_were_sent() -> None:
    assert parse(dump([SPAN, SPAN])) == [SPAN, SPAN]


@pytest.mark.parametrize(
    "members",
    [
        {"trace": "0" * 32},
        {"trace": "A" * 32},
        {"id": "b" * 15},
        {"parent": None},
        {"kind": 7},
        {"began": -1},
        {"ended": 2**63},
        {"ended": True},
        {"name": 3},
        {"attributes": []},
        {"error": {}},
        {"more": 1},
    ],
)
def test_what_is_no_span_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="Spans are"):
        parse(changed(**members))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b"[" * 100_000, b" " * (BYTES + 1), dump([SPAN] * (AT_ONCE + 1))], ids=range(6)
)
def test_what_is_no_list_of_so_many_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="Spans are"):
        parse(body)


def test_what_is_too_long_is_cut_and_what_no_encoder_takes_is_replaced() -> None:
    attributes = {f"n{number}": 2**70 for number in range(ATTRIBUTES + 1)}
    [span] = parse(changed(name="x" * 5000, error="\ud800", attributes=attributes))
    assert (len(span.name), span.error, len(span.attributes)) == (TEXT, "?", ATTRIBUTES)
    assert span.attributes["n0"] == str(2**70)
