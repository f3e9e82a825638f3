"""A full disk (here: a database file that may not grow) refuses work, loses nothing, and is over with more space."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text

from control_api.store.database import WriteSession
from orchestrator_runtime.contract.errors import Problem
from tests.integration.journal.world import World, world


async def limit(journal: World, pages: int | None) -> None:
    """Let the file grow by so many pages; None: as far as it likes."""

    def write(session: WriteSession) -> None:
        now = int(session.execute(text("PRAGMA page_count")).scalar_one())
        session.execute(text(f"PRAGMA max_page_count = {2**31 if pages is None else now + pages}"))

    await journal.database.write(write)


async def test_what_was_acknowledged_is_there_and_what_was_refused_can_be_repeated(
    sqlite_template: Callable[[], str],
) -> None:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:  # not tmp_path: Unix sockets need short paths
        async with world(sqlite_template(), Path(folder) / "j.sock") as journal:
            instance = await journal.instance()
            await instance.admit("r-0")
            await limit(journal, 100)
            bodies = {f"r-{number}": os.urandom(100_000) for number in range(1, 9)}
            asked = {run: instance.start_admit(run, body) for run, body in bodies.items()}
            done = await asyncio.gather(*asked.values(), return_exceptions=True)
            refused = {run: reply for run, reply in zip(asked, done, strict=True) if isinstance(reply, Problem)}
            assert len(refused) > 0
            assert {problem.code for problem in refused.values()} == {"storage_unavailable"}
            known = {row.id for row in await journal.all_rows()}
            assert known >= set(asked) - set(refused) | {"r-0"}

            await limit(journal, None)
            for run, body in bodies.items():
                assert (await instance.admit(run, body)).fields["outcome"] == "started"
                assert (await instance.end(run)).fields["state"] == "succeeded"
            assert (await instance.end("r-0")).fields["state"] == "succeeded"
