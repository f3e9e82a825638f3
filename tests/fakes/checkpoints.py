"""Checkpoints in memory, as the journal protocol describes them. Used by `journal_server`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator_runtime.contract.wire import Message, with_parts

Blob = tuple[str, bytes]  # the framework's name of its encoding, and the bytes


@dataclass(slots=True)
class Kept:
    """One checkpoint: its own members, and the writes that came for it, keyed by (path, task, index)."""

    members: dict[str, Any]
    body: Blob
    writes: dict[tuple[str, str, int], tuple[dict[str, Any], Blob]] = field(default_factory=dict)


class Checkpoints:
    """All threads of one agent. Values of channels are kept once per version."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], Kept] = {}
        self.values: dict[tuple[str, str, str, str], tuple[str, list[Blob]]] = {}

    def put(self, message: Message) -> None:
        fields, blobs = message.fields, message.parts()
        thread, namespace = fields["thread"], fields["namespace"]
        for value in fields["values"]:
            elements = [(element["type"], blobs[element["part"]]) for element in value["elements"]]
            self.values[thread, namespace, value["channel"], value["version"]] = (value["form"], elements)
        names = ("thread", "namespace", "checkpoint", "parent", "run", "metadata", "projection", "channels")
        key = (thread, namespace, fields["checkpoint"])
        body = (fields["body"]["type"], blobs[fields["body"]["part"]])
        writes = self.kept[key].writes if key in self.kept else {}
        self.kept[key] = Kept({name: fields[name] for name in names}, body, writes)

    def write(self, message: Message) -> None:
        fields, blobs = message.fields, message.parts()
        key = (fields["thread"], fields["namespace"], fields["checkpoint"])
        kept = self.kept.setdefault(key, Kept({}, ("", b"")))
        for write in fields["writes"]:
            place = (fields["path"], fields["task"], write["index"])
            if write["index"] < 0 or place not in kept.writes:
                described = {"channel": write["channel"], "index": write["index"]}
                described |= {"task": fields["task"], "path": fields["path"]}
                kept.writes[place] = (described, (write["type"], blobs[write["part"]]))

    def get(self, message: Message) -> Message:
        fields = message.fields
        key = (fields["thread"], fields["namespace"], fields.get("checkpoint"))
        found = self._matching({"thread": key[0], "namespace": key[1], "checkpoint": key[2], "limit": 1})
        blobs: list[bytes] = []
        if not found:
            return Message({"found": False})
        return with_parts({"found": True, **self._stored(found[0], blobs)}, blobs)

    def page(self, message: Message) -> Message:
        blobs: list[bytes] = []
        stored = [self._stored(kept, blobs) for kept in self._matching(message.fields)]
        return with_parts({"checkpoints": stored}, blobs)

    def delete(self, message: Message) -> None:
        thread = message.fields["thread"]
        self.kept = {key: kept for key, kept in self.kept.items() if key[0] != thread}
        self.values = {key: value for key, value in self.values.items() if key[0] != thread}

    def _matching(self, wanted: dict[str, Any]) -> list[Kept]:
        found = []
        for _, kept in sorted(self.kept.items(), key=lambda item: item[0][2], reverse=True):
            if not kept.members:
                continue  # writes came before their checkpoint
            same = all(
                wanted.get(name) is None or kept.members[name] == wanted[name]
                for name in ("thread", "namespace", "checkpoint")
            )
            metadata = (wanted.get("filter") or {}).items()
            if not same or any(kept.members["metadata"].get(name) != value for name, value in metadata):
                continue
            if wanted.get("before") is not None and kept.members["checkpoint"] >= wanted["before"]:
                continue
            found.append(kept)
        return found[: wanted.get("limit")]

    def _stored(self, kept: Kept, blobs: list[bytes]) -> dict[str, Any]:
        def element(blob: Blob) -> dict[str, Any]:
            if blob[1] not in blobs:
                blobs.append(blob[1])
            return {"type": blob[0], "part": blobs.index(blob[1])}

        members = kept.members
        values = []
        for channel, version in members["channels"].items():
            form, elements = self.values[members["thread"], members["namespace"], channel, version]
            values.append(
                {"channel": channel, "version": version, "form": form, "elements": [element(blob) for blob in elements]}
            )
        writes = [described | element(blob) for _, (described, blob) in sorted(kept.writes.items())]
        own = {name: members[name] for name in ("thread", "namespace", "checkpoint", "parent", "run", "metadata")}
        return {**own, "body": element(kept.body), "values": values, "writes": writes}
