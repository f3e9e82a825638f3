"""Answers of model endpoints: kept and given again, and what they say of model and tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator_runtime.frameworks.exchanges import Exchange, Stream, from_answer

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"a": 1}', "json"),
        (b"[1]", "text"),
        (b"data: x\n\n", "text"),
        ("grüße".encode(), "text"),
        (b"\xff", "base64"),
    ],
)
def test_an_answer_makes_an_equal_exchange(body: bytes, kept: str) -> None:
    exchange = Exchange(200, JSON, body)
    answer = exchange.to_answer()
    assert kept in answer
    assert from_answer(json.dumps(answer).encode()) == exchange


def test_headers_of_the_connection_are_not_kept() -> None:
    headers = {"Content-Type": "application/json", "x-request-id": "r", "transfer-encoding": "chunked", "date": "today"}
    assert Exchange(200, headers, b"").kept_headers() == {"Content-Type": "application/json", "x-request-id": "r"}


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (
            {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
            {"model": "m", "input_tokens": 3, "output_tokens": 2},
        ),
        ({"model": "m", "usage": {"input_tokens": 3, "cache": {"x": 1}}}, {"model": "m", "input_tokens": 3}),
        ({"response": {"model": "m", "usage": None}}, {"model": "m"}),
        ({"data": [0.1]}, {}),
    ],
)
def test_model_and_tokens_are_found_in_every_shape(content: dict[str, Any], facts: dict[str, Any]) -> None:
    assert Exchange(200, JSON, json.dumps(content).encode()).facts() == facts
    line = f"event: x\ndata: {json.dumps(content)}\n\ndata: [DONE]\n\n"
    assert Exchange(200, EVENTS, line.encode()).facts() == facts


def test_what_is_no_json_says_nothing() -> None:
    assert Exchange(200, JSON, b"<html>").facts() == {}
    assert Exchange(200, EVENTS, b": comment\ndata: nothing\n\n").facts() == {}


def test_an_error_says_what_the_endpoint_said() -> None:
    exchange = Exchange(429, JSON, b'{"error": "slow down"}')
    assert not exchange.succeeded
    assert str(exchange.error()) == '429: {"error": "slow down"}'


@pytest.mark.parametrize(
    "last",
    [b"data: [DONE]\n\n", b"event: message_stop\ndata: {}\n\n", b"event: response.completed\r\ndata: {}\r\n\r\n"],
)
def test_the_last_event_is_recognised_when_it_is_whole_however_it_is_cut(last: bytes) -> None:
    whole = b"data: {}\n\n" + last
    for cut in range(1, len(whole)):
        stream = Stream(200, EVENTS)
        assert not stream.add(whole[:cut])
        assert stream.add(whole[cut:])
        assert stream.has_last_event()
        assert stream.exchange() == Exchange(200, EVENTS, whole)


def test_a_text_about_the_last_event_is_not_the_last_event() -> None:
    stream = Stream(200, EVENTS)
    assert not stream.add(b'data: {"content": "data: [DONE]"}\n\n')
    assert not stream.has_last_event()
