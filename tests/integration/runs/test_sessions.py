"""Sessions over HTTP."""

from __future__ import annotations

from control_api.sessions.schemas import SessionDetails
from orchestrator_runtime.contract.wire import with_parts
from tests.integration.journal.world import Instance
from tests.integration.runs.world import Api


async def converse(api: Api, session: str, *, run: str, agent: str = "echo") -> None:
    instance = await api.journal.instance(f"i-{run}", agent=agent)
    await instance.admit(run, session=session)
    await instance.end(run)
    api.journal.clock.advance(1)


async def put_checkpoint(
    instance: Instance, run: str, thread: str, values: dict[str, str], *, checkpoint: str = "1"
) -> None:
    fields = {
        "run": run,
        "epoch": 1,
        "thread": thread,
        "namespace": "",
        "checkpoint": checkpoint,
        "parent": None,
        "body": {"type": "json", "part": 0},
        "metadata": {},
        "projection": values,
        "channels": {},
        "values": [],
    }
    message = with_parts(fields, [b"{}"])
    await instance.peer.call("checkpoint.put", message.fields, message.body)


async def test_sessions_are_listed_page_by_page_the_one_with_the_newest_run_first(api: Api) -> None:
    for number, session in enumerate(("a", "b", "c", "a")):
        await converse(api, session, run=f"r-{number}")
    first = await api.get("/sessions", limit=2)
    second = await api.get("/sessions", limit=2, cursor=first["next"])
    listed = [(one["session"], one["runs"]) for page in (first, second) for one in page["items"]]
    assert listed == [("a", 2), ("c", 1), ("b", 1)]
    assert second["next"] is None
    refused = await api.client.get("/sessions", params={"cursor": "WyJ4IiwgInkiLCAieiJd"})
    assert (refused.status_code, refused.json()["code"]) == (400, "cursor_invalid")


async def test_sessions_of_one_agent(api: Api) -> None:
    await converse(api, "a", run="r-1")
    await converse(api, "b", run="r-2", agent="other")
    for path, query in (("/agents/other/sessions", {}), ("/sessions", {"agent": "other"})):
        assert [one["session"] for one in (await api.get(path, **query))["items"]] == ["b"]
    assert (await api.stranger.get("/sessions")).json()["items"] == []


async def test_a_session_is_shown_with_the_state_that_its_framework_put(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", session="a/b")
    await instance.call("session.put", b'{"turns": 1}', run="r-1", epoch=1, session="a/b")
    shown = await api.get("/agents/echo/sessions/a%2Fb")
    assert (shown["session"], shown["state"], shown["state_bytes"]) == ("a/b", {"turns": 1}, 12)


async def test_a_session_is_shown_with_the_values_of_its_newest_checkpoint(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", session="s")
    await put_checkpoint(instance, "r-1", "s", {"topic": "parcels"})
    shown = await api.get("/agents/echo/sessions/s")
    assert shown["state"] == {"topic": "parcels"}
    one = shown["state_bytes"]
    assert one > len("{}") + len('{"topic": "parcels"}')
    await put_checkpoint(instance, "r-1", "s", {"topic": "parcels"}, checkpoint="2")
    await put_checkpoint(instance, "r-1", "another", {"topic": "letters"})
    assert (await api.get("/agents/echo/sessions/s"))["state_bytes"] == 2 * one


async def test_a_state_that_is_not_json_has_a_size(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", session="s")
    await instance.call("session.put", b"\x80\x04", run="r-1", epoch=1, session="s")
    shown = SessionDetails.model_validate(await api.get("/agents/echo/sessions/s"))
    assert (shown.state, shown.state_bytes) == (None, 2)


async def test_a_deleted_session_is_forgotten_and_its_runs_stay(api: Api) -> None:
    instance = await api.journal.instance()
    await instance.admit("r-1", session="s")
    await put_checkpoint(instance, "r-1", "s", {"topic": "parcels"})
    busy = await api.client.delete("/agents/echo/sessions/s")
    assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")
    await instance.end("r-1")
    assert (await api.client.delete("/agents/echo/sessions/s")).status_code == 204
    gone = await api.client.get("/agents/echo/sessions/s")
    assert (gone.status_code, gone.json()["code"]) == (404, "session_unknown")
    assert (await api.client.delete("/agents/echo/sessions/s")).status_code == 404
    found = await instance.call("checkpoint.get", thread="s", namespace="", checkpoint=None)
    assert found.fields["found"] is False
    assert (await api.get("/runs/r-1"))["session"] == "s"
