"""Which host uid each organization's sandboxes have when we are root: never 0, never shared, never given to another."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

FIRST_UID = 200_000


def next_uid(taken: Mapping[str, int]) -> int:
    """The uid for one more organization: above all that were ever given, and nobody's account."""
    uid = max([FIRST_UID - 1, *taken.values()]) + 1
    while _is_account(uid):
        uid += 1
    return uid


class OrganizationUids:
    """A small JSON file, organization → uid. Only the supervisor, of which there is one, writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, organization: str) -> int | None:
        """The organization's uid, given at the first call and kept; None when we are not root and cannot have any."""
        if os.geteuid() != 0:
            return None
        uids: dict[str, int] = json.loads(self._path.read_text()) if self._path.exists() else {}
        if organization not in uids:
            uids[organization] = next_uid(uids)
            self._write(json.dumps(uids))
        return uids[organization]

    def _write(self, text: str) -> None:
        """Replace the file whole: half of it would give a uid twice."""
        draft = self._path.with_suffix(".new")
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._path)


def _is_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
