"""Writes release notes: a Git repository comes as a bundle, Markdown goes out.

Made with LangGraph's functional API: `write` is the agent, each `@task` a step of its run. After a crash the tasks that
had finished are not done again.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import history
from langgraph.func import entrypoint, task

KINDS = {  # heading: types of Conventional Commits | words that other subjects begin with
    "Security": "security | secure",
    "Added": "feat feature | add introduce support allow let offer provide implement new",
    "Fixed": "fix bugfix hotfix | fix fixes correct repair mend resolve handle prevent avoid stop",
    "Faster": "perf | speed faster optimise optimize cache",
    "Changed": "change | change improve update rework replace make use say",
    "Deprecated": "deprecate | deprecate",
    "Removed": "remove | remove drop delete",
    "Documentation": "docs doc | document explain describe readme",
    "Maintenance": "chore refactor test tests build ci style | refactor rename move clean format lint test bump merge",
}
CONVENTIONAL = re.compile(r"(?P<type>[a-zA-Z]+)(\((?P<scope>[^)]+)\))?(?P<breaking>!)?:\s+(?P<text>.+)")
BREAKING = re.compile(r"^BREAKING[ -]CHANGES?:\s*(.+)", re.MULTILINE)
REVERTS = re.compile(r"This reverts commit ([0-9a-f]{7,40})")
MARKDOWN = {"content-type": "text/markdown; charset=utf-8"}


@task
def read_history(bundle: bytes) -> dict[str, Any]:
    """What happened since the last tag."""
    return history.read(bundle)


@task
def sort_changes(commits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each commit means for a reader. One that was taken back means nothing, nor does the one that did that."""
    gone: set[str] = set()
    for commit in commits:  # newest first, so that a revert that was reverted takes nothing back
        match = REVERTS.search(commit["body"]) if commit["id"] not in gone else None
        reverted = [other["id"] for other in commits if match and other["id"].startswith(match[1])]
        gone.update([commit["id"], *reverted] if reverted else [])
    return [_change(commit) for commit in commits if commit["id"] not in gone]


@task
def find_contributors(commits: list[dict[str, Any]], known: list[str]) -> list[dict[str, Any]]:
    """Who took part, the most active first; an address is a person, under the name that was used last."""
    names = {address: name for commit in reversed(commits) for name, address in commit["people"]}
    counts = Counter(address for commit in commits for _, address in commit["people"])
    return [
        {"name": names[address], "commits": count, "is_new": address not in known}
        for address, count in counts.most_common()
    ]


@entrypoint()
def write(bundle: bytes) -> Any:
    """Release notes in Markdown. The first line names the release, or proposes a version by what changed."""
    if not isinstance(bundle, bytes):
        return "Send a Git bundle as the body: orchestrator invoke release-notes -d @repo.bundle", 415
    try:
        found = read_history(bundle).result()
    except history.NoBundleError as error:
        return str(error), 422
    changes = sort_changes(found["commits"])
    contributors = find_contributors(found["commits"], found["known"])
    return render(found, changes.result(), contributors.result()), 200, MARKDOWN


def render(found: dict[str, Any], changes: list[dict[str, Any]], contributors: list[dict[str, Any]]) -> str:
    date = datetime.fromtimestamp(found["date"], UTC).date()
    title = found["release"] or f"Unreleased: {next_version(found['since'], changes)}"
    since = f"since {found['since']}" if found["since"] else "since the beginning"
    people = f"{len(contributors)} {'person' if len(contributors) == 1 else 'people'}"
    lines = [f"# {title} ({date})", "", f"{len(changes)} change{'s' * (len(changes) != 1)} by {people} {since}."]
    breaking = [change for change in changes if change["breaking"]]
    if breaking:
        lines += ["", "## Breaking", "", *(f"- {change['breaking']} ({change['id'][:7]})" for change in breaking)]
    for kind in KINDS:
        of_kind = [change for change in changes if change["kind"] == kind]
        if of_kind:
            lines += ["", f"## {kind}", "", *(f"- {change['text']} ({change['id'][:7]})" for change in of_kind)]
    if contributors:
        lines += ["", "## Contributors", ""]
    for person in contributors:
        commits = f"{person['commits']} commit{'s' * (person['commits'] != 1)}"
        first = ", for the first time" * (person["is_new"] and found["since"] is not None)
        lines.append(f"- {person['name']} ({commits}{first})")
    return "\n".join(lines) + "\n"


def next_version(since: str | None, changes: list[dict[str, Any]]) -> str:
    """By Semantic Versioning; before 1.0 a breaking change raises the second number."""
    match = re.search(r"^(.*?)(\d+)\.(\d+)(?:\.(\d+))?", since or "")
    if match is None:
        return "0.1.0" if since is None else f"after {since}"
    major, minor, patch = int(match[2]), int(match[3]), int(match[4] or 0)
    is_breaking, is_feature = any(change["breaking"] for change in changes), any(_is_new(change) for change in changes)
    if is_breaking and major:
        return f"{match[1]}{major + 1}.0.0"
    return f"{match[1]}{major}.{minor + 1}.0" if is_breaking or is_feature else f"{match[1]}{major}.{minor}.{patch + 1}"


def _is_new(change: dict[str, Any]) -> bool:
    return bool(change["kind"] == "Added")


def _change(commit: dict[str, Any]) -> dict[str, Any]:
    subject, footer = commit["subject"], BREAKING.search(commit["body"])
    match = CONVENTIONAL.fullmatch(subject)
    kind = _kind_of_type(match["type"].lower()) if match else None
    if match is None or kind is None:  # a colon alone makes no Conventional Commit
        return {
            "id": commit["id"],
            "kind": _kind_of_words(subject),
            "text": subject,
            "breaking": footer[1] if footer else None,
        }
    text = match["text"][:1].upper() + match["text"][1:]
    return {
        "id": commit["id"],
        "kind": kind,
        "text": f"**{match['scope']}**: {text}" if match["scope"] else text,
        "breaking": footer[1] if footer else text if match["breaking"] else None,
    }


def _kind_of_type(name: str) -> str | None:
    return next((kind for kind, words in KINDS.items() if name in words.partition("|")[0].split()), None)


def _kind_of_words(subject: str) -> str:
    first = re.split(r"[\s:,]", subject.lower(), maxsplit=1)[0]
    return next((kind for kind, words in KINDS.items() if first in words.partition("|")[2].split()), "Changed")
