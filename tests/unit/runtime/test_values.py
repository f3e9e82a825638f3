"""What a request carries as Python values, and what a result becomes on the wire."""

from __future__ import annotations

import base64
import datetime
import json
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator_runtime.contract.errors import AgentError, BadInput
from orchestrator_runtime.frameworks.adapter import Answer, Part
from orchestrator_runtime.frameworks.values import create_input, to_answer

MULTIPART = 'multipart/form-data; boundary="x y"'


def body_of(*parts: tuple[str, bytes]) -> bytes:
    sections = [b"--x y\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts]
    return b"".join(sections) + b"--x y--\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("application/json; charset=utf-8", b'"\xc3\xa4"', "ä"),
        ("application/ld+json", b"{}", {}),
        ("text/plain", b"\xc3\xa4", "ä"),
        ("text/plain; charset=latin-1", b"\xe4", "ä"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
        ("application/json", b"", None),
        ("application/x-www-form-urlencoded", b"a=1&b=&a=2", {"a": ["1", "2"], "b": ""}),
        ("application/x-www-form-urlencoded", b'{"a": 1}', {"a": 1}),
        ("", b'{"a": 1}', {"a": 1}),
        ("", b"\x00\x01", b"\x00\x01"),
    ],
)
def test_a_body_becomes_the_value_that_its_type_says(content_type: str, body: bytes, value: object) -> None:
    assert create_input(body, content_type=content_type).value() == value


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"{", "not_json"),
        ("application/json", b"[" * 100_000, "not_json"),
        ("text/plain", b"\xff", "not_text"),
        ("text/plain; charset=klingon", b"a", "not_text"),
    ],
)
def test_a_body_that_contradicts_its_type_is_bad_input(content_type: str, body: bytes, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        create_input(body, content_type=content_type).value()
    assert caught.value.code == code


def test_a_multipart_body_has_fields_and_files_whose_bytes_are_untouched() -> None:
    image = bytes(range(256)) + b"\r\n--x\r\n"
    body = body_of(
        ('Content-Disposition: form-data; name="question"', "what is thät?".encode()),
        ('Content-Disposition: form-data; name="options"\r\nContent-Type: application/json', b'{"a":1}'),
        ('Content-Disposition: form-data; name="file"; filename="ä.png"\r\nContent-Type: image/png', image),
        ('Content-Disposition: form-data; name="file"; filename="b"', b""),
    )
    given = create_input(body, content_type=MULTIPART)
    files = [Part("file", image, "image/png", "ä.png"), Part("file", b"", "application/octet-stream", "b")]
    assert list(given.parts[2:]) == files
    assert given.attributes is None
    assert given.value() == {"question": "what is thät?", "options": {"a": 1}, "file": files}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nhalf"),
        ("multipart/form-data; boundary=x", b"--x\r\nno blank line\r\n--x--"),
    ],
)
def test_a_broken_multipart_body_is_bad_input(content_type: str, body: bytes) -> None:
    with pytest.raises(BadInput, match="multipart"):
        create_input(body, content_type=content_type)


def event(**members: Any) -> bytes:
    return json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **members}).encode()


@pytest.mark.parametrize(
    ("members", "value"),
    [
        ({"data": {"a": 1}}, {"a": 1}),
        ({"data": "text"}, "text"),
        ({"data": "text", "datacontenttype": "text/plain"}, "text"),
        ({"data_base64": base64.b64encode(b"\x00").decode(), "datacontenttype": "image/png"}, b"\x00"),
        ({}, None),
    ],
)
def test_a_structured_event_has_attributes_and_data(members: dict[str, Any], value: object) -> None:
    given = create_input(event(**members), content_type="application/cloudevents+json; charset=utf-8")
    assert given.attributes is not None
    assert given.attributes["id"] == "1"
    assert not {"data", "data_base64"} & given.attributes.keys()
    assert given.value() == value


def test_a_binary_event_has_its_attributes_in_headers() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a%20b", "ce-type": "t", "ce-extra": "x"}
    given = create_input(b'{"a":1}', content_type="application/json", headers=headers)
    assert given.attributes == {
        "specversion": "1.0",
        "id": "1",
        "source": "/a b",
        "type": "t",
        "extra": "x",
        "datacontenttype": "application/json",
    }
    assert given.value() == {"a": 1}


@pytest.mark.parametrize(
    ("content_type", "body", "headers"),
    [
        ("application/cloudevents+json", b'{"id": "1"}', {}),
        ("application/cloudevents+json", b"[]", {}),
        ("application/cloudevents+json", event(data_base64="?"), {}),
        ("application/cloudevents-batch+json", b"[]", {}),
        ("application/json", b"", {"ce-specversion": "1.0"}),
    ],
)
def test_a_broken_event_is_bad_input(content_type: str, body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(BadInput) as caught:
        create_input(body, content_type=content_type, headers=headers)
    assert caught.value.code == "cloudevent_invalid"


class Model(BaseModel):
    at: datetime.date


@dataclass
class Record:
    inner: Model


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({"ä": 1}, Answer('{"ä":1}'.encode())),
        (None, Answer(b"null")),
        ("text", Answer(b"text", "text/plain; charset=utf-8")),
        (b"\x00", Answer(b"\x00", "application/octet-stream")),
        (Model(at=datetime.date(2026, 1, 2)), Answer(b'{"at":"2026-01-02"}')),
        (Record(Model(at=datetime.date(2026, 1, 2))), Answer(b'{"inner":{"at":"2026-01-02"}}')),
        ([Model(at=datetime.date(2026, 1, 2))], Answer(b'[{"at":"2026-01-02"}]')),
        ((1, 2), Answer(b"[1,2]")),
        ((1, True), Answer(b"[1,true]")),
        (({"a": 1}, 201), Answer(b'{"a":1}', status=201)),
        (("<p>", 404, {"Content-Type": "text/html", "X-A": "1"}), Answer(b"<p>", "text/html", 404, {"x-a": "1"})),
        (float("nan"), Answer(b"null")),
        (Answer(b"own"), Answer(b"own")),
    ],
)
def test_a_result_becomes_an_answer(value: object, answer: Answer) -> None:
    assert to_answer(value) == answer


def test_a_form_cannot_be_broken_by_what_names_its_parts() -> None:
    part = Part('a"\r\nx: y', b"\r\n\r\n", "text/plain\r\nx: y", "ä\n.txt")
    answer = to_answer(([part], 201))
    [found] = create_input(answer.body, content_type=answer.content_type).parts
    assert answer.status == 201
    assert (found.name, found.body) == ("a%22%0D%0Ax: y", part.body)
    assert (found.content_type, found.filename) == ("text/plain x: y", "ä%0A.txt")


@pytest.mark.parametrize("value", [[], [1, Part("a", b"b")], {"a": [1, 2]}, {}])
def test_what_is_no_form_is_none(value: Any) -> None:
    assert to_answer(value).content_type == "application/json"


def test_a_result_that_is_no_json_is_the_agent_s_error() -> None:
    loop: list[object] = []
    loop.append(loop)
    for value in (object(), {"a": object()}, loop):
        with pytest.raises(AgentError) as caught:
            to_answer(value)
        assert caught.value.code == "answer_not_json"
