"""A Git bundle's history since its last tag. Reads the bundle in Python, so that no git is needed where it runs."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

from dulwich.bundle import read_bundle
from dulwich.objects import Commit, Tag
from dulwich.pack import PackInflater

HEADS = (b"HEAD", b"refs/heads/main", b"refs/heads/master")
TAGS = b"refs/tags/"
HINT = "Make it with: git bundle create repo.bundle --all"
CO_AUTHOR = re.compile(r"^co-authored-by:\s*(.+?)\s*<([^>]+)>\s*$", re.IGNORECASE | re.MULTILINE)


class NoBundleError(ValueError):
    """What came is no bundle, or not one of a whole repository."""


def read(data: bytes) -> dict[str, Any]:
    """JSON values: `release` (the tag of the newest commit, or null), `since` (the tag before it, or null), `date`,
    `commits` (newest first, without merges: id, subject, body, date, people) and `known` (addresses seen before).

    Raises `NoBundleError`.
    """
    commits, tags, head = _objects(data)
    names: dict[bytes, list[str]] = {}
    for name, commit in tags.items():
        names.setdefault(commit, []).append(name)
    release = _newest_version(names.get(head, []))
    line = list(_walk(commits, [head]))
    since = next((commit for commit in line if commit in names and commit != head), None)
    before = set(_walk(commits, [since])) if since else set()
    new = [commits[commit] for commit in line if commit not in before]
    return {
        "release": release,
        "since": _newest_version(names[since]) if since else None,
        "date": commits[head].commit_time,
        "commits": [_commit(commit) for commit in new if len(commit.parents) < 2],
        "known": sorted({address for commit in before for _, address in _people(commits[commit])}),
    }


def _objects(data: bytes) -> tuple[dict[bytes, Commit], dict[str, bytes], bytes]:
    """Commits by id, the commit of each tag, and the newest commit. Files and folders are passed over."""
    try:
        with read_bundle(BytesIO(data)) as bundle:
            references, is_whole = dict(bundle.references), not bundle.prerequisites
            items = PackInflater.for_pack_data(bundle.pack_data) if is_whole else ()
            found = {item.id: item for item in items if isinstance(item, Commit | Tag)}
    except Exception as error:  # damaged data fails in as many ways as it has bytes
        raise NoBundleError(f"This is no Git bundle: {error or type(error).__name__}") from error
    if not is_whole:
        raise NoBundleError(f"The bundle lacks earlier commits. {HINT}")
    commits = {identity: item for identity, item in found.items() if isinstance(item, Commit)}
    tags = {}
    for name, target in references.items():
        if name.startswith(TAGS):
            item = found.get(target)
            while isinstance(item, Tag):
                item = found.get(item.object[1])
            if isinstance(item, Commit):
                tags[name[len(TAGS) :].decode(errors="replace")] = item.id
    heads = [references[name] for name in (*HEADS, *sorted(references)) if references.get(name) in commits]
    if not heads:
        raise NoBundleError(f"The bundle has no branch. {HINT}")
    return commits, tags, heads[0]


def _walk(commits: dict[bytes, Commit], start: Iterable[bytes]) -> Iterator[bytes]:
    """These commits and all before them, newest first. One that a shallow clone left out is passed over."""
    queue = [(-commits[commit].commit_time, commit) for commit in start]
    seen = {commit for _, commit in queue}
    heapq.heapify(queue)
    while queue:
        _, commit = heapq.heappop(queue)
        yield commit
        for parent in commits[commit].parents:
            if parent in commits and parent not in seen:
                seen.add(parent)
                heapq.heappush(queue, (-commits[parent].commit_time, parent))


def _newest_version(names: list[str]) -> str | None:
    """Of several tags of one commit the one with the highest numbers."""
    return max(names, key=lambda name: ([int(part) for part in re.findall(r"\d+", name)], name), default=None)


def _commit(commit: Commit) -> dict[str, Any]:
    subject, _, body = _text(commit.message).strip().partition("\n")
    return {
        "id": commit.id.decode(),
        "subject": subject.strip(),
        "body": body.strip(),
        "date": commit.commit_time,
        "people": _people(commit),
    }


def _people(commit: Commit) -> list[tuple[str, str]]:
    """Name and address of the author and the co-authors."""
    name, _, address = _text(commit.author).partition(" <")
    return [(name, address.rstrip(">").lower())] + [
        (name, address.lower()) for name, address in CO_AUTHOR.findall(_text(commit.message))
    ]


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
