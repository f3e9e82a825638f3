"""Checkpoints of frameworks as they are written, by the attempt that has the run; `stored_checkpoints` reads them.

A channel's value is a row that names its elements by address, so that a list which grows by one element costs one new
blob. Everything a framework or a user put into it is sealed; `metadata` is not, because it is what is searched by.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete

from control_api.journal.ledger import Ledger, dumps
from control_api.journal.operations import Fenced, Operation, Outcome
from control_api.journal.policies import Policies
from control_api.store.bulk import BulkTable
from control_api.store.sealing import OrganizationKey
from control_api.store.tables import checkpoint_blobs, checkpoint_values, checkpoint_writes, checkpoints

CHECKPOINTS = BulkTable(checkpoints)
VALUES = BulkTable(checkpoint_values)
BLOBS = BulkTable(checkpoint_blobs)
BLOB_KEYS = BulkTable(checkpoint_blobs, columns=BLOBS.key)
WRITES = BulkTable(checkpoint_writes)
ADDRESS_BYTES = 16  # of the keyed hash; 128 bits do not collide inside a thread


@dataclass(slots=True)
class PutCheckpoint(Fenced):
    """Keep a checkpoint and the values that are new in it. One that is put again is replaced."""

    checkpoint: dict[str, Any]  # `contract.journal.Checkpoint`, checked
    blobs: list[bytes]

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run, given = self.held(ledger), self.checkpoint
        key = ledger.keys.of(ledger.session, run.organization)
        thread = (run.organization, run.agent, given["thread"])
        values, blobs = {}, {}
        for value in given["values"]:
            elements = []
            for element in value["elements"]:
                content = self.blobs[element["part"]]
                address = _address(key, content)
                blobs[*thread, address] = content
                elements.append([element["type"], address])
            named = (*thread, given["namespace"], value["channel"], value["version"])
            values[named] = (*named, value["form"], dumps(elements))
        for known in BLOB_KEYS.find(ledger.session, list(blobs), lock=False):
            del blobs[tuple(known)]
        sealed = [(*named, key.seal(content, blob_context(named[2], named[3]))) for named, content in blobs.items()]
        BLOBS.insert(ledger.session, sealed, existing="keep")
        VALUES.insert(ledger.session, list(values.values()), existing="replace")
        place = (*thread, given["namespace"], given["checkpoint"])
        row = (
            *place,
            given["parent"],
            run.id,
            given["body"]["type"],
            dumps(given["metadata"]),
            key.seal(dumps(given["projection"]).encode(), context("projection", place)),
            dumps(given["channels"]),
            key.seal(self.blobs[given["body"]["part"]], context("checkpoint", place)),
            ledger.now,
        )
        CHECKPOINTS.insert(ledger.session, [row], existing="replace")
        return None


@dataclass(slots=True)
class PutWrites(Fenced):
    """Keep the pending writes of a task: the first of each index, or with a negative index the last."""

    thread: str
    namespace: str
    checkpoint: str
    task: str
    path: str
    writes: list[dict[str, Any]]
    blobs: list[bytes]

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.held(ledger)
        key = ledger.keys.of(ledger.session, run.organization)
        place = (run.organization, run.agent, self.thread, self.namespace, self.checkpoint, self.task)
        kept: dict[int, tuple[Any, ...]] = {}
        replaced: dict[int, tuple[Any, ...]] = {}
        for write in self.writes:
            index = write["index"]
            body = key.seal(self.blobs[write["part"]], context("write", (*place, str(index))))
            row = (*place, index, self.path, write["channel"], write["type"], body)
            if index < 0:
                replaced[index] = row
            else:
                kept.setdefault(index, row)
        WRITES.insert(ledger.session, list(kept.values()), existing="keep")
        WRITES.insert(ledger.session, list(replaced.values()), existing="replace")
        return None


@dataclass(slots=True)
class DeleteThread(Operation):
    """Forget every checkpoint of a thread."""

    organization: str
    agent: str
    thread: str

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        for table in (checkpoints, checkpoint_values, checkpoint_blobs, checkpoint_writes):
            ledger.session.execute(
                delete(table).where(
                    table.c.organization == self.organization,
                    table.c.agent == self.agent,
                    table.c.thread == self.thread,
                )
            )
        return None


def _address(key: OrganizationKey, content: bytes) -> str:
    return base64.urlsafe_b64encode(key.address(content)[:ADDRESS_BYTES]).decode().rstrip("=")


def context(kind: str, place: Iterable[str]) -> bytes:
    return dumps([kind, *place]).encode()


def blob_context(thread: str, address: str) -> bytes:
    return context("blob", (thread, address))
