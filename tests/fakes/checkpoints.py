"""The journal's checkpoint operations in memory, as `contract.journal` describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator_runtime.contract.wire import Message, with_parts

Key = tuple[str, str, str]  # thread, namespace, checkpoint


@dataclass
class Checkpoints:
    rows: dict[Key, dict[str, Any]] = field(default_factory=dict)
    values: dict[tuple[str, str, str, str], dict[str, Any]] = field(default_factory=dict)
    writes: dict[Key, dict[tuple[str, int], dict[str, Any]]] = field(default_factory=dict)

    def handle(self, operation: str, run: str, message: Message) -> Message:
        handlers = {
            "checkpoint.put": self._put,
            "checkpoint.writes": self._put_writes,
            "checkpoint.get": self._get,
            "checkpoint.list": self._list,
            "checkpoint.delete": self._delete,
        }
        return handlers[operation](run, message.fields, message.parts())

    def _put(self, run: str, fields: dict[str, Any], blobs: list[bytes]) -> Message:
        thread, namespace = fields["thread"], fields["namespace"]
        body = (fields["body"]["type"], blobs[fields["body"]["part"]])
        kept = {name: fields[name] for name in ("parent", "metadata", "projection", "channels")}
        self.rows[thread, namespace, fields["checkpoint"]] = {**kept, "run": run, "body": body}
        for value in fields["values"]:
            elements = [(element["type"], blobs[element["part"]]) for element in value["elements"]]
            key = (thread, namespace, value["channel"], value["version"])
            self.values[key] = {"form": value["form"], "elements": elements}
        return Message()

    def _put_writes(self, run: str, fields: dict[str, Any], blobs: list[bytes]) -> Message:
        stored = self.writes.setdefault((fields["thread"], fields["namespace"], fields["checkpoint"]), {})
        for write in fields["writes"]:
            key = (fields["task"], write["index"])
            if write["index"] < 0 or key not in stored:
                content = (write["type"], blobs[write["part"]])
                stored[key] = {"path": fields["path"], "channel": write["channel"], "content": content}
        return Message()

    def _get(self, run: str, fields: dict[str, Any], blobs: list[bytes]) -> Message:
        wanted = fields.get("checkpoint")
        keys = [
            key
            for key in self.rows
            if key[:2] == (fields["thread"], fields["namespace"]) and (wanted is None or key[2] == wanted)
        ]
        if not keys:
            return Message({"found": False})
        reply: list[bytes] = []
        return with_parts({"found": True, **self._stored(max(keys, key=lambda key: key[2]), reply)}, reply)

    def _list(self, run: str, fields: dict[str, Any], blobs: list[bytes]) -> Message:
        reply: list[bytes] = []
        found = [
            key
            for key in sorted(self.rows, key=lambda key: key[2], reverse=True)
            if fields["thread"] in (None, key[0])
            and fields["namespace"] in (None, key[1])
            and fields["checkpoint"] in (None, key[2])
            and (fields["before"] is None or key[2] < fields["before"])
            and all(self.rows[key]["metadata"].get(name) == value for name, value in (fields["filter"] or {}).items())
        ][: fields["limit"]]
        return with_parts({"checkpoints": [self._stored(key, reply) for key in found]}, reply)

    def _delete(self, run: str, fields: dict[str, Any], blobs: list[bytes]) -> Message:
        thread = fields["thread"]
        self.rows = {key: row for key, row in self.rows.items() if key[0] != thread}
        self.values = {key: value for key, value in self.values.items() if key[0] != thread}
        self.writes = {key: writes for key, writes in self.writes.items() if key[0] != thread}
        return Message()

    def _stored(self, key: Key, blobs: list[bytes]) -> dict[str, Any]:
        row = self.rows[key]

        def part(content: tuple[str, bytes]) -> dict[str, Any]:
            if content[1] not in blobs:
                blobs.append(content[1])
            return {"type": content[0], "part": blobs.index(content[1])}

        values = []
        for channel, version in row["channels"].items():
            value = self.values.get((key[0], key[1], channel, version))
            if value is not None:
                elements = [part(element) for element in value["elements"]]
                values.append({"channel": channel, "version": version, "form": value["form"], "elements": elements})
        ordered = sorted(self.writes.get(key, {}).items(), key=lambda item: (item[1]["path"], *item[0]))
        writes = [
            {"task": task, "path": write["path"], "index": index, "channel": write["channel"], **part(write["content"])}
            for (task, index), write in ordered
        ]
        head = {"thread": key[0], "namespace": key[1], "checkpoint": key[2], "parent": row["parent"]}
        body = part(row["body"])
        return {
            **head,
            "run": row["run"],
            "body": body,
            "metadata": row["metadata"],
            "values": values,
            "writes": writes,
        }
