"""Requests of instances as operations: what is missing, or of the wrong type, is refused before it gets anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

from control_api.journal import operations
from control_api.journal.admission import Admit
from control_api.journal.checkpoints import DeleteThread, PutCheckpoint, PutWrites
from control_api.journal.operations import Append, End, Operation, Wait
from control_api.journal.sessions import PutSession
from control_api.journal.tokens import Identity
from orchestrator_runtime.contract.errors import BadInput
from orchestrator_runtime.contract.journal import Admission, Ending
from orchestrator_runtime.contract.states import TERMINAL_RUN_STATES, WaitReason
from orchestrator_runtime.contract.wire import Header, Message

LARGEST_COUNT = 2**31 - 1  # of PostgreSQL's integer
OPTIONAL_TEXTS = ("key", "fingerprint", "session", "traceparent", "caller")


def invalid(name: str, expected: str) -> BadInput:
    return BadInput(f"The member {name} is missing or is not {expected}", code="request_invalid")


def text(fields: Header, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or "\0" in value:  # PostgreSQL stores no NUL in text
        raise invalid(name, "a text")
    return value


def optional_text(fields: Header, name: str) -> str | None:
    return None if fields.get(name) is None else text(fields, name)


def number(fields: Header, name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise invalid(name, "a number")
    return float(value)


def count(fields: Header, name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST_COUNT:
        raise invalid(name, "a whole number of at most 31 bits")
    return value


def an_object(fields: Header, name: str) -> dict[str, Any]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise invalid(name, "an object")
    return value


def texts(fields: Header, name: str) -> dict[str, str]:
    value = an_object(fields, name)
    if not all(isinstance(item, str) for item in value.values()):
        raise invalid(name, "an object of texts")
    return value


def objects(fields: Header, name: str) -> list[dict[str, Any]]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid(name, "a list of objects")
    return value


def admission(fields: Header) -> Admission:
    """Checked, and without what does not belong to it. A dispatched run is described by what is recorded."""
    dispatched = bool(fields.get("dispatched"))
    values: dict[str, Any] = {
        "run": text(fields, "run"),
        "dispatched": dispatched,
        "deadline": number(fields, "deadline"),
        "trigger": "http" if dispatched else text(fields, "trigger"),
        "request": {} if dispatched else an_object(fields, "request"),
        "correlation": "" if dispatched else text(fields, "correlation"),
    }
    if not dispatched:
        values |= {name: value for name in OPTIONAL_TEXTS if (value := optional_text(fields, name)) is not None}
        if fields.get("headers") is not None:
            values["headers"] = texts(fields, "headers")
    return cast("Admission", values)


def ending(fields: Header) -> Ending:
    if text(fields, "state") not in TERMINAL_RUN_STATES:
        raise invalid("state", "succeeded, failed or cancelled")
    values: dict[str, Any] = {"state": fields["state"], "status": count(fields, "status")}
    if fields.get("content_type") is not None:
        values["content_type"] = text(fields, "content_type")
    for name in ("headers", "problem", "usage"):
        if fields.get(name) is not None:
            values[name] = an_object(fields, name)
    if fields.get("unasked") is not None:
        values["unasked"] = [{"name": text(call, "name"), "n": count(call, "n")} for call in objects(fields, "unasked")]
    if fields.get("retryable") is not None:
        values["retryable"] = bool(fields["retryable"])
    return cast("Ending", values)


def _admit(identity: Identity, message: Message) -> Operation:
    asked = admission(message.fields)
    return Admit(
        identity.organization,
        identity.agent,
        identity.revision,
        asked,
        message.body,
        identity=identity,
        dispatched=bool(asked.get("dispatched")),
    )


def _attempt(identity: Identity, message: Message) -> tuple[str, str, Identity, int]:
    """What every fenced operation begins with: organization, run, identity, epoch."""
    return identity.organization, text(message.fields, "run"), identity, count(message.fields, "epoch")


def _blobs(message: Message) -> list[bytes]:
    """The blobs of the body, cut by lengths that fit it."""
    parts = message.fields.get("parts", [])
    if not isinstance(parts, list) or not all(type(length) is int and length >= 0 for length in parts):
        raise invalid("parts", "a list of lengths")
    if sum(parts) > len(message.body):
        raise invalid("parts", "a list of lengths that the body has")
    return message.parts()


def _append(identity: Identity, message: Message) -> Operation:
    blobs = _blobs(message)
    events = operations.checked_events(message.fields.get("events"), len(blobs))
    batch = count(message.fields, "batch") if message.fields.get("batch") is not None else 0
    return Append(*_attempt(identity, message), events, blobs, batch)


def _end(identity: Identity, message: Message) -> Operation:
    return End(*_attempt(identity, message), ending(message.fields), message.body)


def _wait(identity: Identity, message: Message) -> Operation:
    reason = message.fields.get("reason")
    if reason not in (WaitReason.DISPATCH, WaitReason.RETRY):
        raise invalid("reason", "dispatch or retry")
    return Wait(*_attempt(identity, message), WaitReason(reason), number(message.fields, "until"))


def _put_checkpoint(identity: Identity, message: Message) -> Operation:
    blobs = _blobs(message)
    return PutCheckpoint(*_attempt(identity, message), checkpoint(message.fields, len(blobs)), blobs)


def _put_writes(identity: Identity, message: Message) -> Operation:
    fields, blobs = message.fields, _blobs(message)
    writes = objects(fields, "writes")
    for write in writes:
        for name in ("channel", "type"):
            text(write, name)
        count(write, "index")
        part(write, len(blobs))
    place = (text(fields, "thread"), text(fields, "namespace"), text(fields, "checkpoint"))
    return PutWrites(
        *_attempt(identity, message), *place, text(fields, "task"), optional_text(fields, "path") or "", writes, blobs
    )


def _delete_thread(identity: Identity, message: Message) -> Operation:
    return DeleteThread(identity.organization, identity.agent, text(message.fields, "thread"))


def _put_session(identity: Identity, message: Message) -> Operation:
    return PutSession(*_attempt(identity, message), text(message.fields, "session"), message.body)


def checkpoint(fields: Header, blobs: int) -> dict[str, Any]:
    """A `Checkpoint` of a message with so many blobs, checked."""
    body = an_object(fields, "body")
    text(body, "type")
    part(body, blobs)
    channels = an_object(fields, "channels")
    values = objects(fields, "values")
    for name in channels:
        text(channels, name)
    for value in values:
        text(value, "channel")
        text(value, "version")
        if value.get("form") not in ("list", "single", "empty"):
            raise invalid("form", "list, single or empty")
        for element in objects(value, "elements"):
            text(element, "type")
            part(element, blobs)
    return {
        **{name: text(fields, name) for name in ("thread", "namespace", "checkpoint")},
        "parent": optional_text(fields, "parent"),
        "body": body,
        "metadata": an_object(fields, "metadata"),
        "projection": fields.get("projection"),
        "channels": channels,
        "values": values,
    }


def part(fields: Header, blobs: int) -> None:
    if not 0 <= count(fields, "part") < blobs:
        raise invalid("part", "the number of a blob")


WRITES: dict[str, Callable[[Identity, Message], Operation]] = {
    "admit": _admit,
    "append": _append,
    "end": _end,
    "wait": _wait,
    "checkpoint.put": _put_checkpoint,
    "checkpoint.writes": _put_writes,
    "checkpoint.delete": _delete_thread,
    "session.put": _put_session,
}
