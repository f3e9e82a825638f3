"""PostgreSQL's connection breaks during COMMIT: whoever is granted a run hears of it, and nothing is done twice."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import make_url

from orchestrator_runtime.contract.errors import Unavailable
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.integration.journal.world import World, world

Cut = Literal["before", "after"]
BOTH: tuple[Cut, ...] = ("before", "after")


@asynccontextmanager
async def behind_proxy(url: str) -> AsyncIterator[tuple[World, CuttingProxy]]:
    address = make_url(url)
    assert address.port is not None
    async with cutting_proxy(address.port) as proxy:
        through = address.set(port=proxy.port).render_as_string(hide_password=False)
        with tempfile.TemporaryDirectory(prefix="orc-") as folder:
            async with world(through, Path(folder) / "j.sock") as journal:
                yield journal, proxy


@pytest.mark.parametrize("cut", BOTH)
async def test_an_admission_whose_commit_was_cut_off_is_granted_once(
    postgres_template: Callable[[], str], cut: Cut
) -> None:
    async with behind_proxy(postgres_template()) as (journal, proxy):
        instance = await journal.instance()
        proxy.cut = cut
        admitted = await instance.admit("r-1", key="k", fingerprint="f")
        assert (admitted.fields["outcome"], admitted.fields["epoch"], admitted.fields["attempt"]) == ("started", 1, 1)
        assert proxy.happened == 1
        assert (await instance.end("r-1")).fields["state"] == "succeeded"
        [row] = await journal.all_rows()
        assert (row.id, row.attempt, row.event_count) == ("r-1", 1, 2)


@pytest.mark.parametrize("cut", BOTH)
async def test_a_dispatched_run_and_its_input_are_granted_once(postgres_template: Callable[[], str], cut: Cut) -> None:
    async with behind_proxy(postgres_template()) as (journal, proxy):
        instance = await journal.instance()
        proxy.cut = cut
        await journal.submit("r-1", b"x" * 5000)
        assert proxy.happened == 1
        proxy.cut = cut
        taken = await instance.take("r-1")
        assert proxy.happened == 2
        assert (taken.fields["epoch"], taken.body) == (1, b"x" * 5000)
        [row] = await journal.all_rows()
        assert (row.id, row.attempt) == ("r-1", 1)


@pytest.mark.parametrize("cut", BOTH)
async def test_an_end_whose_commit_was_cut_off_may_be_repeated(postgres_template: Callable[[], str], cut: Cut) -> None:
    async with behind_proxy(postgres_template()) as (journal, proxy):
        instance = await journal.instance()
        await instance.admit("r-1")
        proxy.cut = cut
        with pytest.raises(Unavailable):
            await instance.end("r-1")  # the runtime asks again by itself
        assert (await instance.end("r-1")).fields["state"] == "succeeded"
        assert (await journal.row("r-1")).state == "succeeded"
