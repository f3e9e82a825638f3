"""Checkpoints of frameworks as they are read: by any instance of the agent, and by who shows a session."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import RowMapping, select

from control_api.journal.checkpoints import BLOBS, VALUES, blob_context, context
from control_api.store.database import ReadSession
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import checkpoint_writes, checkpoints
from orchestrator_runtime.contract.wire import Message, with_parts

Place = tuple[str, ...]
"""organization, agent, thread, namespace, checkpoint"""


class CheckpointReader:
    """Reads checkpoints of one agent in one transaction."""

    def __init__(self, session: ReadSession, *, keys: OrganizationKeys, organization: str, agent: str) -> None:
        self._session = session
        self._organization = organization
        self._agent = agent
        self._key = keys.of(session, organization)

    def get(self, *, thread: str, namespace: str, checkpoint: str | None) -> Message:
        """Reply of `checkpoint.get`: found, and if so the checkpoint, the newest one without `checkpoint`."""
        rows = self._rows(thread=thread, namespace=namespace, checkpoint=checkpoint, before=None, wanted={}, limit=1)
        if not rows:
            return Message({"found": False})
        [stored], blobs = self._stored(rows)
        return with_parts({"found": True, **stored}, blobs)

    def find(
        self,
        *,
        thread: str | None,
        namespace: str | None,
        checkpoint: str | None,
        before: str | None,
        limit: int | None,
        wanted: dict[str, Any],
    ) -> Message:
        """Reply of `checkpoint.list`: checkpoints, the newest first; with all of `wanted` in their metadata."""
        rows = self._rows(
            thread=thread, namespace=namespace, checkpoint=checkpoint, before=before, wanted=wanted, limit=limit
        )
        found, blobs = self._stored(rows)
        return with_parts({"checkpoints": found}, blobs)

    def projection(self, thread: str) -> Any:
        """The values of the thread's newest checkpoint as JSON; None if there is none."""
        rows = self._rows(thread=thread, namespace="", checkpoint=None, before=None, wanted={}, limit=1)
        if not rows or rows[0]["projection"] is None:
            return None
        return json.loads(self._key.open(rows[0]["projection"], context("projection", self._place(rows[0]))))

    def _rows(
        self,
        *,
        thread: str | None,
        namespace: str | None,
        checkpoint: str | None,
        before: str | None,
        wanted: dict[str, Any],
        limit: int | None,
    ) -> list[RowMapping]:
        query = select(checkpoints).where(
            checkpoints.c.organization == self._organization, checkpoints.c.agent == self._agent
        )
        named = (
            (checkpoints.c.thread, thread),
            (checkpoints.c.namespace, namespace),
            (checkpoints.c.checkpoint, checkpoint),
        )
        for column, value in named:
            if value is not None:
                query = query.where(column == value)
        if before is not None:
            query = query.where(checkpoints.c.checkpoint < before)
        query = query.order_by(checkpoints.c.checkpoint.desc())
        if limit is not None and not wanted:
            query = query.limit(limit)
        rows: list[RowMapping] = []
        for row in self._session.execute(query).mappings():
            if limit is not None and len(rows) >= limit:
                break
            if all(name in row["metadata"] and row["metadata"][name] == value for name, value in wanted.items()):
                rows.append(row)
        return rows

    def _stored(self, rows: Sequence[RowMapping]) -> tuple[list[dict[str, Any]], list[bytes]]:
        """`StoredCheckpoint`s and the blobs that they name, each once."""
        parts = _Parts()
        values = self._values(rows, parts)
        found = []
        for row in rows:
            place = self._place(row)
            body = parts.add(place, self._key.open(row["body"], context("checkpoint", place)))
            channels = ((*place[:4], channel, version) for channel, version in row["channels"].items())
            found.append(
                {
                    **{name: row[name] for name in ("thread", "namespace", "checkpoint", "parent", "run", "metadata")},
                    "body": {"type": row["type"], "part": body},
                    "values": [values[named] for named in channels if named in values],
                    "writes": self._writes(place, parts),
                }
            )
        return found, parts.blobs

    def _values(self, rows: Iterable[RowMapping], parts: _Parts) -> dict[Place, dict[str, Any]]:
        """`CheckpointValue`s of all channels of the rows, by where they are stored."""
        wanted = [(*self._place(row)[:4], *channel) for row in rows for channel in row["channels"].items()]
        found = VALUES.find(self._session, list(dict.fromkeys(wanted)), lock=False)
        elements = {tuple(row[:6]): json.loads(row[7]) for row in found}
        blobs = {(*place[:3], address): None for place, listed in elements.items() for _, address in listed}
        for *_, thread, address, sealed in BLOBS.find(self._session, list(blobs), lock=False):
            parts.add((thread, address), self._key.open(bytes(sealed), blob_context(thread, address)))
        return {
            tuple(row[:6]): {
                "channel": row[4],
                "version": row[5],
                "form": row[6],
                "elements": [
                    {"type": kind, "part": parts.number[row[2], address]} for kind, address in elements[tuple(row[:6])]
                ],
            }
            for row in found
        }

    def _writes(self, place: Place, parts: _Parts) -> list[dict[str, Any]]:
        columns = zip(checkpoint_writes.primary_key.columns, place, strict=False)
        query = select(checkpoint_writes).where(*(column == value for column, value in columns))
        found = self._session.execute(query).mappings()
        writes = []
        for row in sorted(found, key=lambda row: (row["path"], row["task"], row["index"])):
            named = (*place, row["task"], str(row["index"]))
            part = parts.add(named, self._key.open(row["body"], context("write", named)))
            writes.append({**{name: row[name] for name in ("task", "path", "index", "channel", "type")}, "part": part})
        return writes

    def _place(self, row: RowMapping) -> Place:
        return (self._organization, self._agent, row["thread"], row["namespace"], row["checkpoint"])


class _Parts:
    """The blobs of a reply and the number of each."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.number: dict[Place, int] = {}

    def add(self, name: Place, blob: bytes) -> int:
        if name not in self.number:
            self.number[name] = len(self.blobs)
            self.blobs.append(blob)
        return self.number[name]
