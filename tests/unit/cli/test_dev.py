"""Hot reload: when a folder counts as changed, and what happens with a change that does not deploy."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from control_api.cli.client import Client
from control_api.cli.dev import Snapshot, changes, show_log, snapshot, try_deploy
from control_api.cli.terminal import Terminal
from orchestrator_runtime.contract.errors import Unavailable, Unprocessable
from tests.fakes.api_server import TOKEN, FakePlatform, event_stream

A: Snapshot = (("agent.py", 1, 1, False),)
B: Snapshot = (("agent.py", 2, 2, False),)
C: Snapshot = (("agent.py", 3, 3, False),)


def seen(*looks: Snapshot, count: int) -> list[Snapshot]:
    left = iter(looks)
    return list(islice(changes(lambda: next(left), pause=lambda seconds: None), count))


def test_the_first_look_is_a_change_and_the_same_again_is_none() -> None:
    assert seen(A, A, A, B, B, count=2) == [A, B]


def test_a_folder_that_is_still_being_written_is_waited_for() -> None:
    assert seen(A, B, C, C, C, count=2) == [A, C]


def test_a_snapshot_tells_content_and_time_and_ignores_what_is_not_deployed(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("1")
    before = snapshot(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "agent.pyc").write_text("x")
    assert snapshot(tmp_path) == before
    (tmp_path / "agent.py").write_text("12")
    assert snapshot(tmp_path) != before
    assert snapshot(tmp_path / "gone") == ()


@pytest.fixture
def client(platform: FakePlatform) -> Client:
    return Client(platform.url, TOKEN)


def test_a_change_that_does_not_deploy_is_told_and_waited_over(
    client: Client, platform: FakePlatform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.yaml").write_text("name: a\n")
    platform.answer("POST /api/v1/deployments", Unprocessable("no", code="manifest_invalid", hint="Mend it."))
    assert try_deploy(client, tmp_path, Terminal()) is None
    assert "no (manifest_invalid)" in capsys.readouterr().err
    assert try_deploy(client, tmp_path, Terminal()) is not None
    assert "waiting for changes" in capsys.readouterr().err


def test_a_platform_that_is_gone_ends_it(platform: FakePlatform, client: Client, tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("name: a\n")
    platform.answer("POST /api/v1/deployments", Unavailable("down", code="down"))
    with pytest.raises(Unavailable):
        try_deploy(client, tmp_path, Terminal())


def test_the_log_of_a_revision_is_shown_until_it_ends(
    client: Client, platform: FakePlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "GET /api/v1/agents/a/logs"
    platform.answer(path, event_stream(("line", {"at": "2026-11-24T14:00:00.000Z", "instance": "i", "line": "hello"})))
    show_log(client, "a", "a-00001", Terminal())
    assert capsys.readouterr().out == "14:00:00  i  hello\n"
    assert platform.asked(path)[0].query == {"revision": "a-00001", "follow": "true"}
    show_log(client, "nobody", "x-00001", Terminal())
    assert "The log of x-00001 ended" in capsys.readouterr().err
