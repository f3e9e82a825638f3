"""The sample that writes release notes: of its own bundle, of this repository's, and of some made for a rule."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator_runtime.frameworks.adapter import Answer, Input
from orchestrator_runtime.frameworks.langgraph import load
from tests.fakes.run_context import FakeRunContext, create_call
from tests.integration.langgraph.graphs import START, outline

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "samples" / "release-notes"
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_COMMITTER_NAME": "Committer",
    "GIT_COMMITTER_EMAIL": "committer@example.com",
}


def git(folder: Path, *arguments: str, **environment: str) -> str:
    program = shutil.which("git")
    assert program is not None, "git is not installed: `make test` installs it"
    given = {**ENVIRONMENT, **environment, "PATH": str(Path(program).parent)}
    done = subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True, text=True, env=given)
    return done.stdout.strip()


class Repository:
    """A repository whose commits are a minute apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._minutes = 0
        git(folder, "init", "-q", "-b", "main")

    def commit(self, subject: str, body: str = "", *, author: str = "Ada <ada@example.com>") -> str:
        self._minutes += 1
        name, _, address = author.rstrip(">").partition(" <")
        date = f"2026-01-01T00:{self._minutes:02}:00Z"
        people = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address}
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        git(self.folder, "commit", "-q", "--allow-empty", "-m", f"{subject}\n\n{body}", **people, **dates)
        return git(self.folder, "rev-parse", "HEAD")

    def merge(self, branch: str) -> None:
        people = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.com"}
        git(self.folder, "merge", "-q", "--no-ff", "-m", f"Merge {branch}", branch, **people)

    def tag(self, name: str, *, annotated: bool = False) -> None:
        git(self.folder, "tag", *(["-a", "-m", name] if annotated else []), name)

    def bundle(self, *what: str) -> bytes:
        git(self.folder, "bundle", "create", "-q", "of.bundle", *(what or ("--all",)))
        return (self.folder / "of.bundle").read_bytes()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("agent").write
    for name in ("agent", "history"):
        del sys.modules[name]


async def call(agent: Any, data: bytes, *, content_type: str = "application/octet-stream") -> Answer:
    given, _ = create_call(given=Input(data, content_type))
    return await load(agent, START).run(given)


async def notes(agent: Any, data: bytes) -> str:
    answer = await call(agent, data)
    assert (answer.status, answer.content_type) == (200, "text/markdown; charset=utf-8"), answer.body
    return answer.body.decode()


async def test_it_writes_the_notes_of_its_sample(agent: Any) -> None:
    written = await notes(agent, (FOLDER / "kettle.bundle").read_bytes())
    assert written.startswith("# Unreleased: v3.0.0 (2026-03-10)\n\n6 changes by 3 people since v2.3.0.\n")
    assert "## Breaking\n\n- folders of Kettle 1 must be opened with 2.3 once before (de9cbe6)\n" in written
    headings = [line[3:] for line in written.splitlines() if line.startswith("## ")]
    assert headings == ["Breaking", "Added", "Fixed", "Faster", "Documentation", "Maintenance", "Contributors"]
    assert "- **storage**: Read notes as UTF-8 (c510728)" in written
    assert "olours for tags" not in written  # reverted
    assert "- Mara Klein (3 commits)\n" in written
    assert "- Aiko Sato (3 commits, for the first time)\n" in written


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout of the repository")
async def test_it_writes_the_notes_of_this_repository(agent: Any, tmp_path: Path) -> None:
    git(ROOT, "bundle", "create", "-q", str(tmp_path / "repo.bundle"), "HEAD")
    written = await notes(agent, (tmp_path / "repo.bundle").read_bytes())
    newest = git(ROOT, "log", "--no-merges", "-1", "--format=%h", "--abbrev=7")
    assert written.count(f"({newest})") == 1
    assert f"## Contributors\n\n- {git(ROOT, 'log', '-1', '--format=%an')}" in written


async def test_its_tasks_are_steps_of_the_run(agent: Any) -> None:
    context = FakeRunContext()
    bundle = Input((FOLDER / "kettle.bundle").read_bytes(), "application/octet-stream")
    given, _ = create_call(run=context, given=bundle)
    await load(agent, START).run(given)
    tasks = ["  node read_history succeeded", "  node sort_changes succeeded", "  node find_contributors succeeded"]
    assert outline(context.journal_) == ["node write succeeded", *tasks]


async def test_a_run_that_died_before_its_end_was_recorded_gives_the_same_answer(agent: Any) -> None:
    context = FakeRunContext()
    bundle = Input((FOLDER / "kettle.bundle").read_bytes(), "application/octet-stream")
    first = await load(agent, START).run(create_call(run=context, given=bundle)[0])
    again = FakeRunContext(context.journal_, run=context.run, attempt=2)
    assert await load(agent, START).run(create_call(run=again, given=bundle)[0]) == first
    assert len(context.journal_.steps()) == 4


@pytest.mark.parametrize(
    ("subject", "body", "heading", "text"),
    [
        ("feat: colours", "", "Added", "Colours"),
        ("Add colours", "", "Added", "Add colours"),
        ("fix(ui): the colour of buttons", "", "Fixed", "**ui**: The colour of buttons"),
        ("Mend the buttons", "", "Fixed", "Mend the buttons"),
        ("perf: start in half the time", "", "Faster", "Start in half the time"),
        ("Gateway: forward what was parsed", "", "Changed", "Gateway: forward what was parsed"),
        ("Buttons are round", "", "Changed", "Buttons are round"),
        ("Remove the colours", "", "Removed", "Remove the colours"),
        ("chore!: need Python 3.11", "", "Breaking", "Need Python 3.11"),
        ("Round buttons", "BREAKING CHANGE: square ones are gone", "Breaking", "square ones are gone"),
    ],
)
async def test_what_a_commit_is(
    agent: Any, repository: Repository, subject: str, body: str, heading: str, text: str
) -> None:
    commit = repository.commit(subject, body)
    assert f"## {heading}\n\n- {text} ({commit[:7]})\n" in await notes(agent, repository.bundle())


@pytest.mark.parametrize(
    ("tag", "subjects", "title"),
    [
        (None, ["feat: a"], "Unreleased: 0.1.0"),
        ("v1.2.3", ["fix: a"], "Unreleased: v1.2.4"),
        ("1.2.3", ["fix: a", "feat: b"], "Unreleased: 1.3.0"),
        ("v1.2.3", ["feat: a", "fix!: b"], "Unreleased: v2.0.0"),
        ("v0.2", ["feat!: a"], "Unreleased: v0.3.0"),
        ("spring", ["fix: a"], "Unreleased: after spring"),
    ],
)
async def test_the_next_version_follows_from_what_changed(
    agent: Any, repository: Repository, tag: str | None, subjects: list[str], title: str
) -> None:
    repository.commit("Begin")
    if tag is not None:
        repository.tag(tag, annotated=True)
    for subject in subjects:
        repository.commit(subject)
    assert (await notes(agent, repository.bundle())).startswith(f"# {title} (2026-01-01)\n")


async def test_a_tagged_commit_is_that_release_since_the_tag_before(agent: Any, repository: Repository) -> None:
    for number, subject in enumerate(("Begin", "Add a", "Add b")):
        repository.commit(subject)
        repository.tag(f"v{number}.9")
        repository.tag(f"v{number}.10")
    written = await notes(agent, repository.bundle())
    assert written.startswith("# v2.10 (2026-01-01)\n\n1 change by 1 person since v1.10.\n")
    assert "Add b" in written
    assert "Add a" not in written


async def test_commits_of_a_branch_count_and_its_merge_does_not(agent: Any, repository: Repository) -> None:
    repository.commit("Begin")
    repository.tag("v1.0.0")
    git(repository.folder, "checkout", "-q", "-b", "side")
    repository.commit("Add from the side")
    git(repository.folder, "checkout", "-q", "main")
    repository.commit("Add from the middle")
    repository.merge("side")
    written = await notes(agent, repository.bundle())
    assert "Add from the side" in written
    assert "Add from the middle" in written
    assert "Merge side" not in written


async def test_a_revert_that_was_reverted_leaves_the_change(agent: Any, repository: Repository) -> None:
    first = repository.commit("Add colours")
    second = repository.commit('Revert "Add colours"', f"This reverts commit {first}.")
    repository.commit('Revert "Revert "Add colours""', f"This reverts commit {second}.")
    written = await notes(agent, repository.bundle())
    assert written.count("Add colours") == 1
    assert "1 change by" in written


@pytest.mark.parametrize("data", [b"# v2 git bundle\n", b"\x00" * 100, b"PK\x03\x04"])
async def test_what_is_no_bundle_is_refused(agent: Any, data: bytes) -> None:
    answer = await call(agent, data)
    assert answer.status == 422
    assert answer.body.startswith((b"This is no Git bundle", b"The bundle has no branch"))


async def test_a_damaged_bundle_is_refused(agent: Any) -> None:
    data = (FOLDER / "kettle.bundle").read_bytes()
    assert (await call(agent, data[: len(data) // 2])).status == 422


async def test_a_bundle_of_newer_commits_only_is_refused_with_what_to_do(agent: Any, repository: Repository) -> None:
    first = repository.commit("Begin")
    repository.commit("Add a")
    answer = await call(agent, repository.bundle(f"{first}..main"))
    assert answer.status == 422
    assert b"git bundle create repo.bundle --all" in answer.body


async def test_json_is_refused_with_what_to_send(agent: Any) -> None:
    answer = await call(agent, b'{"repository": 1}', content_type="application/json")
    assert answer.status == 415
    assert b"-d @repo.bundle" in answer.body
