"""Between bytes and Python values: what a request carries, and what an agent's result becomes on the wire.

Shared by the server and all adapters. Input: JSON, text, forms, multipart, CloudEvents (HTTP binding 1.0.2, binary and
structured). Output: whatever a function returns.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from email.message import Message
from email.parser import HeaderParser
from email.utils import collapse_rfc2231_value
from typing import Any
from urllib.parse import parse_qsl, unquote

from pydantic_core import PydanticSerializationError, to_json

from orchestrator_runtime.contract.errors import AgentError, BadInput
from orchestrator_runtime.frameworks import multipart
from orchestrator_runtime.frameworks.adapter import Answer, Input, Part

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"
EVENT_TYPES = "application/cloudevents"
EVENT = f"{EVENT_TYPES}+json"
FORM = "application/x-www-form-urlencoded"
EVENT_PREFIX = "ce-"
REQUIRED_ATTRIBUTES = ("specversion", "id", "source", "type")
STRUCTURED_MEMBERS = f"as members of the JSON object that is sent as {EVENT}"


# in


def create_input(
    body: bytes,
    *,
    content_type: str = "",
    method: str = "POST",
    path: str = "/",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Input:
    """An `Input` with its parts or its event's attributes taken out. Names of `headers` are lower case.

    `attributes`: of an event in binary form whose headers are not there any more. Raises `BadInput`
    (`multipart_invalid`, `cloudevent_invalid`, `not_json`).
    """
    headers = headers or {}
    parts: tuple[Part, ...] = ()
    if content_type.startswith(EVENT_TYPES):
        body, content_type, attributes = _structured_event(body, content_type)
    elif attributes or is_event(headers):
        attributes = dict(attributes or event_attributes(headers))
        attributes = _checked({**attributes, "datacontenttype": content_type} if content_type else attributes)
    elif content_type.startswith("multipart/"):
        parts = split_multipart(body, content_type)
    return Input(
        body=body,
        content_type=content_type,
        parts=parts,
        attributes=attributes,
        method=method,
        path=path,
        query=query,
        headers=headers,
    )


def is_event(headers: Mapping[str, str]) -> bool:
    """Whether this is an event in binary form."""
    return f"{EVENT_PREFIX}specversion" in headers


def event_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """The context attributes of an event in binary form, whose header fields are percent-encoded."""
    start = len(EVENT_PREFIX)
    return {name[start:]: unquote(value) for name, value in headers.items() if name.startswith(EVENT_PREFIX)}


def decode(given: Input) -> Any:
    """The body as a Python value, as `Input.value` says."""
    if given.parts:
        return _fields((part.name, _part_value(part)) for part in given.parts)
    if not given.body:
        return None
    return _value(given.body, given.content_type)


def is_json(content_type: str) -> bool:
    """Whether it is JSON, also with parameters or a suffix (`application/ld+json`)."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in (JSON, "text/json") or kind.endswith("+json")


def split_multipart(body: bytes, content_type: str) -> tuple[Part, ...]:
    """The parts of a multipart body (RFC 2046, 7578). Raises `BadInput` (`multipart_invalid`)."""
    boundary = _header("content-type", content_type).get_boundary()
    if not boundary:
        raise _broken_multipart("its Content-Type names no boundary")
    # A delimiter begins a line; the first one may begin the body.
    _, *sections = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if not sections or not sections[-1].startswith(b"--"):
        raise _broken_multipart("it ends before its last boundary")
    return tuple(_part(section) for section in sections[:-1])


def _broken_multipart(why: str) -> BadInput:
    return BadInput(
        f"The multipart body is broken: {why}",
        code="multipart_invalid",
        hint="Let an HTTP client write the form, and do not set the Content-Type yourself.",
    )


def _part(section: bytes) -> Part:
    """One part, from the end of its delimiter on (which may be padded) to the line break before the next one."""
    _, line_break, rest = section.partition(b"\r\n")
    head, blank, body = (b"\r\n" + rest).partition(b"\r\n\r\n")
    if not line_break or not blank:
        raise _broken_multipart("a part has no end of its header")
    fields = HeaderParser().parsestr(head.decode(errors="replace").lstrip())
    disposition = "content-disposition"
    filename = fields.get_param("filename", None, disposition)
    return Part(
        name=collapse_rfc2231_value(fields.get_param("name", "", disposition)),
        body=body,
        content_type=fields.get("content-type", BINARY if filename else "text/plain"),
        filename=None if filename is None else collapse_rfc2231_value(filename),
    )


def _part_value(part: Part) -> Any:
    """A field's own value; a file stays the part that it is."""
    return part if part.filename is not None else _value(part.body, part.content_type)


def _value(body: bytes, content_type: str) -> Any:
    if content_type == JSON or is_json(content_type):
        return _loads(body)
    if content_type.startswith("text/"):
        return _text(body, content_type)
    is_form = content_type.startswith(FORM)
    if is_form and body[:1] not in (b"{", b"["):
        return _fields(parse_qsl(_text(body, content_type), keep_blank_values=True))
    if content_type and not is_form:
        return body
    try:  # no type at all, or what `curl -d '{…}'` calls a form although no form begins so
        return json.loads(body)
    except ValueError:
        return body


def _fields(pairs: Any) -> dict[str, Any]:
    """Named values; a name that comes more than once has a list."""
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"The body is not JSON: {error}",
            code="not_json",
            hint="Send valid JSON, or the Content-Type of what you send.",
        ) from error


def _text(body: bytes, content_type: str) -> str:
    charset = _header("content-type", content_type).get_content_charset("utf-8")
    try:
        return body.decode(charset)
    except (UnicodeDecodeError, LookupError) as error:
        raise BadInput(
            f"The body is not text in {charset}", code="not_text", hint="Send the Content-Type of what you send."
        ) from error


def _header(name: str, value: str) -> Message:
    message = Message()
    message[name] = value
    return message


# CloudEvents


def _structured_event(body: bytes, content_type: str) -> tuple[bytes, str, dict[str, Any]]:
    """Data, its content type, and the context attributes of an event that is one JSON object."""
    if content_type.partition(";")[0].strip() != EVENT:
        raise BadInput(
            f"{content_type} is not taken", code="cloudevent_invalid", hint=f"Send one event at a time, as {EVENT}."
        )
    event = _loads(body)
    if not isinstance(event, dict):
        raise BadInput(
            "A CloudEvent is a JSON object",
            code="cloudevent_invalid",
            hint=f"Send its attributes {STRUCTURED_MEMBERS}.",
        )
    data, encoded = event.pop("data", None), event.pop("data_base64", None)
    attributes = _checked(event)
    kind = str(event.get("datacontenttype", JSON))
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True), kind, attributes
        except (ValueError, TypeError) as error:
            raise BadInput(
                "data_base64 is not Base64", code="cloudevent_invalid", hint="Put what is no binary into `data`."
            ) from error
    if data is None:
        return b"", kind, attributes
    if isinstance(data, str) and not is_json(kind):
        return data.encode(), kind, attributes
    return json.dumps(data, ensure_ascii=False).encode(), kind, attributes


def _checked(attributes: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in REQUIRED_ATTRIBUTES if not attributes.get(name)]
    if missing:
        raise BadInput(
            f"The CloudEvent has no {', '.join(missing)}",
            code="cloudevent_invalid",
            hint=f"Send {', '.join(REQUIRED_ATTRIBUTES)}: as header fields such as ce-id, or {STRUCTURED_MEMBERS}.",
        )
    return attributes


# out


def to_answer(value: Any) -> Answer:
    """What a function returned, on the wire.

    str becomes text, bytes stay bytes, a `Part` is what it says; a list of parts, or a mapping with a part in it,
    becomes a form; all else JSON (pydantic models, dataclasses, dates, sets and the like too).
    `(value, status)` and `(value, status, headers)` say more, as in functions-framework.
    Raises `AgentError` (`answer_not_json`) for what is no JSON.
    """
    if isinstance(value, Answer):
        return value
    if isinstance(value, tuple) and len(value) in (2, 3) and _is_status(value[1]):
        return _with_status(*value)
    if isinstance(value, str):
        return Answer(value.encode(errors="replace"), TEXT)
    if isinstance(value, bytes | bytearray | memoryview):
        return Answer(bytes(value), BINARY)
    if isinstance(value, Part):
        return multipart.of_part(value)
    pairs = multipart.parts_of(value)
    if pairs is not None:
        return multipart.form(_part_of(*pair) for pair in pairs)
    return Answer(encode(value))


def _part_of(name: str | None, value: Any) -> Part:
    """A field of a form: a part by its name in the mapping, or what the value alone would be as an answer."""
    if isinstance(value, Part):
        return value if name is None else replace(value, name=name)
    answer = to_answer(value)
    return Part(name or "", answer.body, answer.content_type)


def encode(value: Any) -> bytes:
    """A value as JSON. Raises `AgentError` (`answer_not_json`)."""
    try:
        return to_json(value, inf_nan_mode="null")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise AgentError(
            f"The agent returned a {type(value).__name__} that cannot be written as JSON: {error}",
            code="answer_not_json",
            hint="Return JSON values, str, bytes, a Part, a pydantic model or a dataclass.",
        ) from error


def _is_status(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 599


def _with_status(value: Any, status: int, headers: Mapping[str, str] | None = None) -> Answer:
    answer = to_answer(value)
    headers = {str(name).lower(): str(text) for name, text in (headers or {}).items()}
    content_type = headers.pop("content-type", answer.content_type)
    return Answer(answer.body, content_type, status=int(status), headers={**answer.headers, **headers})
