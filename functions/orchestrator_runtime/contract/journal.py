"""The journal protocol, version 1: what an instance asks of the journal, over `wire` frames on a Unix socket.

The first request is `hello`; everything else is refused before it. The token says which organization, agent and
instance speaks: no operation carries an organization. All replies come after the commit.

| operation            | fields                                                   | body          | reply |
|----------------------|----------------------------------------------------------|---------------|-------|
| `hello`              | protocol, token                                          |               | protocol |
| `admit`              | Admission                                                | input         | Admitted; body = recorded answer when `finished`, the recorded input when the run was dispatched |
| `append`             | run, epoch, batch, events: [Event]; `part` of an event indexes a blob | blobs | seq: the last event's number |
| `recorded`           | run                                                      |               | calls: [{name, digest, n, part}]; body: their results |
| `end`                | run, epoch, Ending                                       | answer        | state |
| `wait`               | run, epoch, reason, until (seconds since the epoch)      |               | |
| `checkpoint.put`     | run, epoch, Checkpoint                                   | blobs         | |
| `checkpoint.writes`  | run, epoch, thread, namespace, checkpoint, task, path, writes: [CheckpointWrite] | blobs | |
| `checkpoint.get`     | thread, namespace, checkpoint (null: the newest)         |               | found, and if so StoredCheckpoint; blobs |
| `checkpoint.list`    | thread, namespace, checkpoint, before, limit, filter (null: any) |       | checkpoints: [StoredCheckpoint], newest first; blobs, each once |
| `checkpoint.delete`  | thread                                                   |               | |
| `session.get`        | session                                                  |               | found; body: its state |
| `session.put`        | run, epoch, session                                      | state         | |
| `spans`              |                                                          | spans (`contract.spans`) | |

Notifications from the journal: `cancel` {run, grace}: stop this run, you have `grace` seconds. `refused` {error}: the
connection is closed now, because of that problem; docs/internals.md lists what may be taken of the journal.

`batch` counts an attempt's appends from 1: one that is repeated after a lost connection is answered, not written
again. Without it nothing is recognised as repeated. A repeated `end` is answered with what the first one did; its reply
`waiting` means that the run will be attempted again.

A checkpoint holds the versions of its channels; a channel's value is stored once per version, a list element by
element. `put` sends only the values that are new. Equal (task, index) of a checkpoint is written once, the first one
wins; a negative index is overwritten. Checkpoints are ordered by their identity, `before` is exclusive, `filter`
compares members of `metadata`, a null thread lists all threads of the agent. `writes` are ordered by (path, task, index).

A write whose epoch is old is refused with the problem `fenced` (409): another attempt has the run.
A runtime one version older keeps working: fields are only ever added, and both ends ignore those they do not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL = 1
FENCED = "fenced"  # problem code: the epoch is old; stop working on this run


class Admission(TypedDict):
    """Asks to work on a run. The body is the input as it came."""

    run: str  # the identity it gets if nothing else decides it; with `dispatched`, the run that is meant
    dispatched: NotRequired[bool]  # the run is recorded already (async, retry, lost executor); the body is empty
    key: NotRequired[str]  # Idempotency-Key
    fingerprint: NotRequired[str]  # digest of method, path and body: the same key with another one is refused (422)
    session: NotRequired[str]
    trigger: Literal["http", "event"]
    # Enough to send the request again: method, path, query, content_type, `stream` if the caller wanted events, and
    # the attributes of an event in binary form.
    request: dict[str, Any]
    headers: NotRequired[dict[str, str]]  # of the request, as `headers.kept` leaves them; stored sealed
    deadline: float  # seconds this attempt may take; no lease outlives it
    correlation: str
    traceparent: NotRequired[str]
    caller: NotRequired[str]


class Admitted(TypedDict):
    """`started`: work, with this epoch. `finished`: do not; the body is the recorded answer, `ending` says how."""

    run: str
    outcome: Literal["started", "finished"]
    epoch: int
    attempt: int
    ending: NotRequired[Ending]
    recorded: NotRequired[int]  # calls recorded by earlier attempts; ask `recorded` for them if not 0
    session: NotRequired[str]
    request: NotRequired[dict[str, Any]]  # of a dispatched run
    headers: NotRequired[dict[str, str]]  # of a dispatched run


class Event(TypedDict):
    """One run event. Kinds that an instance writes: step.started, step.succeeded, step.failed, output, log."""

    kind: str
    at: float  # seconds since the epoch
    step: NotRequired[str]  # identity of the step within the run
    parent: NotRequired[str]
    name: NotRequired[str]
    step_kind: NotRequired[str]  # states.StepKind
    data: NotRequired[dict[str, Any]]  # tokens, durations, model; small
    seconds: NotRequired[float]  # that a step took
    part: NotRequired[int]  # blob with the step's input (started) or result (ended)
    call: NotRequired[dict[str, Any]]  # {name, digest, n}: this result answers that call after a crash


class Ending(TypedDict):
    """How a run ended. `retryable` is false for what no retry can mend: bad input, cancel."""

    state: Literal["succeeded", "failed", "cancelled"]
    status: int  # HTTP status of the answer
    content_type: NotRequired[str]
    headers: NotRequired[dict[str, str]]
    problem: NotRequired[dict[str, Any]]
    retryable: NotRequired[bool]
    usage: NotRequired[dict[str, int]]  # input_tokens, output_tokens
    unasked: NotRequired[list[dict[str, Any]]]  # {name, n} of recorded calls that this attempt did not make again


class CheckpointElement(TypedDict):
    """One blob: the framework's name of its encoding, and its place among the message's blobs."""

    type: str
    part: int


class CheckpointValue(TypedDict):
    """A channel at one version: `list` is stored by element, `single` has one element, `empty` has none."""

    channel: str
    version: str
    form: Literal["list", "single", "empty"]
    elements: list[CheckpointElement]


class CheckpointWrite(TypedDict):
    """A pending write of a task. `index` is negative for a framework's own channels (errors, interrupts)."""

    index: int
    channel: str
    type: str
    part: int
    task: NotRequired[str]  # in what is read
    path: NotRequired[str]  # in what is read


class Checkpoint(TypedDict):
    """`body`: the framework's own record, without values. `projection`: the values as JSON, for people and search."""

    thread: str
    namespace: str
    checkpoint: str
    parent: str | None
    body: CheckpointElement
    metadata: dict[str, Any]
    projection: Any
    channels: dict[str, str]  # every channel of the checkpoint and its version
    values: list[CheckpointValue]


class StoredCheckpoint(TypedDict):
    """A checkpoint as it is read: with the values of all its channels, its writes, and the run that put it."""

    thread: str
    namespace: str
    checkpoint: str
    parent: str | None
    run: str
    body: CheckpointElement
    metadata: dict[str, Any]
    values: list[CheckpointValue]
    writes: list[CheckpointWrite]


def fingerprint(request: Mapping[str, Any], body: bytes) -> str:
    """What makes two requests of the same Idempotency-Key the same one: method, path, query and body. Hex."""
    head = "\0".join(str(request.get(name, "")) for name in ("method", "path", "query"))
    return hashlib.sha256(head.encode() + b"\0" + body).hexdigest()
