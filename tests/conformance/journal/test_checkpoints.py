"""The journal protocol: checkpoints."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator_runtime.contract.errors import Conflict
from orchestrator_runtime.contract.wire import Message, with_parts
from tests.conformance.journal.subjects import Subject
from tests.integration.journal.world import Instance

Blobs = list[bytes]


def value(channel: str, version: str, content: bytes | Blobs | None) -> tuple[dict[str, Any], Blobs]:
    """A value with its blobs: a list for a list channel, None for an empty one."""
    form = "empty" if content is None else "list" if isinstance(content, list) else "single"
    blobs = content if isinstance(content, list) else [] if content is None else [content]
    return {"channel": channel, "version": version, "form": form}, blobs


async def put(
    instance: Instance,
    checkpoint: str,
    *values: tuple[dict[str, Any], Blobs],
    channels: dict[str, str] | None = None,
    thread: str = "t",
    namespace: str = "",
    parent: str | None = None,
    body: bytes = b"body",
    metadata: dict[str, Any] | None = None,
    epoch: int = 1,
) -> None:
    blobs, sent = [body], []
    for fields, contents in values:
        elements = [{"type": "msgpack", "part": len(blobs) + number} for number in range(len(contents))]
        blobs += contents
        sent.append({**fields, "elements": elements})
    message = with_parts(
        {
            "run": "r-1",
            "epoch": epoch,
            "thread": thread,
            "namespace": namespace,
            "checkpoint": checkpoint,
            "parent": parent,
            "body": {"type": "json", "part": 0},
            "metadata": metadata or {},
            "projection": {"any": ["json"]},
            "channels": {fields["channel"]: fields["version"] for fields, _ in values} | (channels or {}),
            "values": sent,
        },
        blobs,
    )
    await instance.peer.call("checkpoint.put", message.fields, message.body)


async def put_writes(
    instance: Instance, checkpoint: str, task: str, *writes: tuple[int, bytes], path: str = ""
) -> None:
    sent = [
        {"index": index, "channel": f"c{index}", "type": "msgpack", "part": part}
        for part, (index, _) in enumerate(writes)
    ]
    place = {"thread": "t", "namespace": "", "checkpoint": checkpoint, "task": task, "path": path}
    message = with_parts({"run": "r-1", "epoch": 1, **place, "writes": sent}, [content for _, content in writes])
    await instance.peer.call("checkpoint.writes", message.fields, message.body)


async def get(instance: Instance, checkpoint: str | None = None, *, thread: str = "t", namespace: str = "") -> Message:
    return await instance.call("checkpoint.get", thread=thread, namespace=namespace, checkpoint=checkpoint)


async def listed(instance: Instance, **asked: Any) -> list[str]:
    fields = {**dict.fromkeys(("thread", "namespace", "checkpoint", "before", "limit", "filter")), **asked}
    reply = await instance.call("checkpoint.list", **fields)
    return [stored["checkpoint"] for stored in reply.fields["checkpoints"]]


def contents(reply: Message) -> dict[str, tuple[str, Blobs]]:
    """Channel -> (form, blobs) of what `get` answered."""
    parts = reply.parts()
    return {
        found["channel"]: (found["form"], [parts[element["part"]] for element in found["elements"]])
        for found in reply.fields["values"]
    }


@pytest.fixture
async def instance(subject: Subject) -> Instance:
    made = await subject.instance()
    await made.admit("r-1")
    return made


async def test_a_checkpoint_comes_back_as_it_was_put(instance: Instance) -> None:
    await put(instance, "1", value("a", "v1", b"one"), body=b"own", metadata={"step": 1}, parent="0")
    reply = await get(instance, "1")
    stored = {name: reply.fields[name] for name in ("found", "thread", "namespace", "checkpoint", "parent", "run")}
    assert stored == {
        "found": True,
        "thread": "t",
        "namespace": "",
        "checkpoint": "1",
        "parent": "0",
        "run": "r-1",
    }
    assert reply.fields["metadata"] == {"step": 1}
    assert reply.fields["body"]["type"] == "json"
    assert reply.parts()[reply.fields["body"]["part"]] == b"own"
    assert contents(reply) == {"a": ("single", [b"one"])}
    assert reply.fields["values"][0]["elements"][0]["type"] == "msgpack"


async def test_what_is_not_there_is_not_found(instance: Instance) -> None:
    assert (await get(instance)).fields["found"] is False
    await put(instance, "1")
    assert (await get(instance, "2")).fields["found"] is False
    assert (await get(instance, namespace="sub")).fields["found"] is False


async def test_without_a_name_the_newest_one_is_given(instance: Instance) -> None:
    for checkpoint in ("1", "3", "2"):
        await put(instance, checkpoint)
    assert (await get(instance)).fields["checkpoint"] == "3"


async def test_values_that_did_not_change_are_put_once(instance: Instance) -> None:
    await put(instance, "1", value("a", "v1", b"one"), value("b", "v1", b"two"))
    await put(instance, "2", value("b", "v2", b"three"), channels={"a": "v1"})
    assert contents(await get(instance, "2")) == {"a": ("single", [b"one"]), "b": ("single", [b"three"])}
    assert contents(await get(instance, "1")) == {"a": ("single", [b"one"]), "b": ("single", [b"two"])}


async def test_lists_grow_by_element_and_may_repeat_one(instance: Instance) -> None:
    await put(instance, "1", value("messages", "v1", [b"hi"]))
    await put(instance, "2", value("messages", "v2", [b"hi", b"you", b"hi"]))
    await put(instance, "3", value("messages", "v3", []))
    assert contents(await get(instance, "1")) == {"messages": ("list", [b"hi"])}
    assert contents(await get(instance, "2")) == {"messages": ("list", [b"hi", b"you", b"hi"])}
    assert contents(await get(instance, "3")) == {"messages": ("list", [])}


async def test_a_channel_may_be_empty(instance: Instance) -> None:
    await put(instance, "1", value("a", "v1", None))
    assert contents(await get(instance)) == {"a": ("empty", [])}


async def test_a_checkpoint_that_is_put_again_is_replaced(instance: Instance) -> None:
    await put(instance, "1", value("a", "v1", b"one"), metadata={"n": 1})
    await put(instance, "1", value("a", "v1", b"two"), metadata={"n": 2})
    reply = await get(instance)
    assert (reply.fields["metadata"], contents(reply)) == ({"n": 2}, {"a": ("single", [b"two"])})


async def test_large_values_come_back(instance: Instance) -> None:
    large = bytes(range(256)) * 2000
    await put(instance, "1", value("a", "v1", large), body=large)
    reply = await get(instance)
    assert contents(reply) == {"a": ("single", [large])}


async def test_of_equal_writes_the_first_one_stays_and_special_ones_are_overwritten(instance: Instance) -> None:
    await put(instance, "1")
    await put_writes(instance, "1", "task", (0, b"first"), (-1, b"error"))
    await put_writes(instance, "1", "task", (0, b"second"), (-1, b"newer"), (1, b"more"))
    reply = await get(instance)
    parts = reply.parts()
    assert [(write["index"], write["channel"], parts[write["part"]]) for write in reply.fields["writes"]] == [
        (-1, "c-1", b"newer"),
        (0, "c0", b"first"),
        (1, "c1", b"more"),
    ]


async def test_writes_are_ordered_by_path_task_and_index(instance: Instance) -> None:
    await put(instance, "1")
    await put_writes(instance, "1", "b", (0, b"3"), path="a")
    await put_writes(instance, "1", "a", (1, b"2"), (0, b"1"), path="a")
    await put_writes(instance, "1", "z", (0, b"0"))
    reply = await get(instance)
    parts = reply.parts()
    assert [parts[write["part"]] for write in reply.fields["writes"]] == [b"0", b"1", b"2", b"3"]


async def test_checkpoints_are_listed_newest_first_and_filtered(instance: Instance) -> None:
    for number in range(1, 5):
        await put(instance, str(number), metadata={"even": number % 2 == 0, "source": "loop"})
    await put(instance, "9", namespace="sub")
    await put(instance, "8", thread="other")
    assert await listed(instance, thread="t", namespace="") == ["4", "3", "2", "1"]
    assert await listed(instance, thread="t", namespace="", before="3") == ["2", "1"]
    assert await listed(instance, thread="t", namespace="", limit=1) == ["4"]
    assert await listed(instance, thread="t", namespace="", limit=0) == []
    assert await listed(instance, thread="t", filter={"even": True}) == ["4", "2"]
    assert await listed(instance, thread="t", filter={"even": True}, limit=1) == ["4"]
    assert await listed(instance, thread="t", filter={"source": "fork"}) == []
    assert await listed(instance, thread="t", namespace="", checkpoint="2") == ["2"]
    assert await listed(instance, thread="t") == ["9", "4", "3", "2", "1"]
    assert await listed(instance) == ["9", "8", "4", "3", "2", "1"]


async def test_a_list_holds_values_and_writes(instance: Instance) -> None:
    await put(instance, "1", value("a", "v1", [b"one", b"two"]))
    await put_writes(instance, "1", "task", (0, b"write"))
    reply = await instance.call(
        "checkpoint.list", thread="t", namespace="", checkpoint=None, before=None, limit=None, filter=None
    )
    [stored] = reply.fields["checkpoints"]
    parts = reply.parts()
    assert [parts[element["part"]] for element in stored["values"][0]["elements"]] == [b"one", b"two"]
    assert parts[stored["writes"][0]["part"]] == b"write"


async def test_a_deleted_thread_leaves_nothing_behind(instance: Instance) -> None:
    for thread in ("t", "other"):
        await put(instance, "1", value("a", "v1", b"one"), thread=thread)
    await put_writes(instance, "1", "task", (0, b"write"))
    await instance.call("checkpoint.delete", thread="t")
    assert (await get(instance)).fields["found"] is False
    assert (await get(instance, thread="other")).fields["found"] is True
    await put(instance, "1", channels={"a": "v1"})
    reply = await get(instance)
    assert (contents(reply), reply.fields["writes"]) == ({}, [])


async def test_an_old_attempt_puts_no_checkpoint(instance: Instance) -> None:
    with pytest.raises(Conflict) as fenced:
        await put(instance, "1", epoch=2)
    assert fenced.value.code == "fenced"
    assert (await get(instance)).fields["found"] is False
