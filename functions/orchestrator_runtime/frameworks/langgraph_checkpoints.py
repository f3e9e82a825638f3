"""LangGraph's checkpointer over the journal: what makes a graph go on after a crash, and remember a session.

One per attempt, made by the adapter. Values are encoded by LangGraph's own serializer, a list element by element, so
that the journal keeps every message once however often the list grows. A graph may call it from the run's event loop,
from any other thread and from an event loop of its own there.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic_core import to_jsonable_python

from orchestrator_runtime.contract.journal import (
    Checkpoint,
    CheckpointElement,
    CheckpointValue,
    CheckpointWrite,
    StoredCheckpoint,
)
from orchestrator_runtime.contract.wire import Message, with_parts
from orchestrator_runtime.frameworks.current import Active
from orchestrator_runtime.frameworks.excerpt import excerpt

TUPLE = "tuple:"  # before the type of a tuple, which LangGraph's serializer would give back as a list
INTERNAL = ("__", "branch:to:")  # how the names of LangGraph's own channels begin


class JournalSaver(BaseCheckpointSaver[str]):  # type: ignore[misc]
    """The checkpoints of this agent, as the run `active` sees and writes them."""

    def __init__(self, active: Active, *, serde: SerializerProtocol | None = None) -> None:
        # What the serializer does not know is pickled: it is read by this very agent, in its own instance only.
        super().__init__(serde=serde or JsonPlusSerializer(pickle_fallback=True))
        self._active = active
        run = active.run
        # The thread that nobody can have written to: that of a run without a session, until its first attempt does.
        self._unwritten = run.run if run.session is None and run.attempt == 1 else None

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """Ordered as text, and never the same twice: two branches of a thread share no version."""
        return f"{int(str(current or 0).partition('.')[0]) + 1:010}.{secrets.token_hex(4)}"

    # asynchronous

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread, namespace, checkpoint = _place(config)
        if thread is not None and thread == self._unwritten:
            return None
        asked = {"thread": thread, "namespace": namespace or "", "checkpoint": checkpoint}
        reply = await self._ask("checkpoint.get", Message(asked))
        return self._read(reply.fields, reply.parts()) if reply.fields["found"] else None  # type: ignore[arg-type]

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's word
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        thread, namespace, checkpoint = _place(config) if config else (None, None, None)
        asked = {"thread": thread, "namespace": namespace, "checkpoint": checkpoint, "filter": filter, "limit": limit}
        reply = await self._ask("checkpoint.list", Message({**asked, "before": _place(before)[2] if before else None}))
        parts = reply.parts()
        for stored in reply.fields["checkpoints"]:
            yield self._read(stored, parts)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Mapping[str, Any],
        metadata: Mapping[str, Any],
        new_versions: Mapping[str, str | int | float],
    ) -> RunnableConfig:
        thread, namespace, parent = _place(config)
        blobs = _Blobs(self.serde)
        values: Mapping[str, Any] = checkpoint["channel_values"]
        fields: Checkpoint = {
            "thread": str(thread),
            "namespace": namespace or "",
            "checkpoint": checkpoint["id"],
            "parent": parent,
            "body": blobs.add({name: value for name, value in checkpoint.items() if name != "channel_values"}),
            "metadata": to_jsonable_python(get_checkpoint_metadata(config, metadata), fallback=str),
            "projection": _projection(values),
            "channels": {channel: str(version) for channel, version in checkpoint["channel_versions"].items()},
            "values": [blobs.add_value(channel, str(new), values) for channel, new in new_versions.items()],
        }
        self._unwritten = None
        await self._ask("checkpoint.put", with_parts({**fields}, blobs.parts))
        return _config(fields["thread"], fields["namespace"], fields["checkpoint"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._unwritten = None
        thread, namespace, checkpoint = _place(config)
        blobs = _Blobs(self.serde)
        put = [blobs.add_write(index, channel, value) for index, (channel, value) in enumerate(writes)]
        fields = {"thread": thread, "namespace": namespace or "", "checkpoint": checkpoint}
        task = {"task": task_id, "path": task_path, "writes": put}
        await self._ask("checkpoint.writes", with_parts({**fields, **task}, blobs.parts))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._ask("checkpoint.delete", Message({"thread": str(thread_id)}))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        asked = dict.fromkeys(("namespace", "checkpoint", "before", "limit", "filter"))
        reply = await self._ask("checkpoint.list", Message({"thread": str(source_thread_id), **asked}))
        parts = reply.parts()
        for stored in reversed(reply.fields["checkpoints"]):
            await self._copy(stored, parts, thread=str(target_thread_id))

    # blocking, for graphs that run in a thread

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._active.wait(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's word
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        async def collect() -> Sequence[CheckpointTuple]:
            return [found async for found in self.alist(config, filter=filter, before=before, limit=limit)]

        yield from self._active.wait(collect())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Mapping[str, Any],
        metadata: Mapping[str, Any],
        new_versions: Mapping[str, str | int | float],
    ) -> RunnableConfig:
        return self._active.wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._active.wait(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        self._active.wait(self.adelete_thread(thread_id))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._active.wait(self.acopy_thread(source_thread_id, target_thread_id))

    # the journal

    async def _ask(self, operation: str, message: Message) -> Message:
        work = self._active.run.journal(operation, message.fields, message.body)
        if self._active.in_loop:
            reply: Message = await work
        else:  # an event loop that a node started in its thread: the journal belongs to the run's own
            reply = await asyncio.to_thread(self._active.wait, work)
        return reply

    def _read(self, stored: StoredCheckpoint, parts: Sequence[bytes]) -> CheckpointTuple:
        def load(element: CheckpointElement | CheckpointWrite) -> Any:
            kind = element["type"]
            value = self.serde.loads_typed((kind.removeprefix(TUPLE), parts[element["part"]]))
            return tuple(value) if kind.startswith(TUPLE) else value

        values = {
            value["channel"]: [load(element) for element in value["elements"]]
            if value["form"] == "list"
            else load(value["elements"][0])
            for value in stored["values"]
            if value["form"] != "empty"
        }
        thread, namespace, parent = stored["thread"], stored["namespace"], stored["parent"]
        return CheckpointTuple(
            config=_config(thread, namespace, stored["checkpoint"]),
            checkpoint={**load(stored["body"]), "channel_values": values},
            metadata=stored["metadata"],
            parent_config=_config(thread, namespace, parent) if parent else None,
            pending_writes=[(write["task"], write["channel"], load(write)) for write in stored["writes"]],
        )

    async def _copy(self, stored: StoredCheckpoint, parts: Sequence[bytes], *, thread: str) -> None:
        """Write a checkpoint again as `thread`'s, its blobs as they are."""
        copied: Checkpoint = {
            "thread": thread,
            "namespace": stored["namespace"],
            "checkpoint": stored["checkpoint"],
            "parent": stored["parent"],
            "body": stored["body"],
            "metadata": stored["metadata"],
            "projection": _projection(self._read(stored, parts).checkpoint["channel_values"]),
            "channels": {value["channel"]: value["version"] for value in stored["values"]},
            "values": stored["values"],
        }
        await self._ask("checkpoint.put", with_parts({**copied}, parts))
        place = {name: copied[name] for name in ("thread", "namespace", "checkpoint")}  # type: ignore[literal-required]
        # The writes are ordered by (path, task), so each task's are neighbours.
        for (path, task), writes in itertools.groupby(
            stored["writes"], key=lambda write: (write["path"], write["task"])
        ):
            fields = {**place, "task": task, "path": path, "writes": [*writes]}
            await self._ask("checkpoint.writes", with_parts(fields, parts))


class _Blobs:
    """The parts of one message; equal ones are sent once."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self.parts: list[bytes] = []
        self._serde = serde
        self._known: dict[bytes, int] = {}

    def add(self, value: Any) -> CheckpointElement:
        kind, data = self._serde.dumps_typed(value)
        kind = TUPLE + kind if type(value) is tuple else kind
        part = self._known.setdefault(bytes(data), len(self.parts))
        if part == len(self.parts):
            self.parts.append(bytes(data))
        return {"type": kind, "part": part}

    def add_write(self, index: int, channel: str, value: Any) -> CheckpointWrite:
        element = self.add(value)
        index = WRITES_IDX_MAP.get(channel, index)
        return {"index": index, "channel": channel, "type": element["type"], "part": element["part"]}

    def add_value(self, channel: str, version: str, values: Mapping[str, Any]) -> CheckpointValue:
        """A channel's value; one that is not among `values` is empty at this version."""
        if channel not in values:
            return {"channel": channel, "version": version, "form": "empty", "elements": []}
        value = values[channel]
        if type(value) is list:
            elements = [self.add(element) for element in value]
            return {"channel": channel, "version": version, "form": "list", "elements": elements}
        return {"channel": channel, "version": version, "form": "single", "elements": [self.add(value)]}


def _place(config: RunnableConfig) -> tuple[str | None, str | None, str | None]:
    """Thread, namespace and checkpoint that a config names."""
    place = config["configurable"]
    thread = place.get("thread_id")
    return None if thread is None else str(thread), place.get("checkpoint_ns"), place.get("checkpoint_id") or None


def _config(thread: str, namespace: str, checkpoint: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}}


def _projection(values: Mapping[str, Any]) -> Any:
    return excerpt({channel: value for channel, value in values.items() if not channel.startswith(INTERNAL)})
