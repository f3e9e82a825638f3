"""Keys are replaced while everything is in use, and a crash anywhere loses nothing."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary, func, select, update

from control_api.encryption.files import FileKeys
from control_api.encryption.resealing import unfinished
from control_api.encryption.sealed import STANDING, WEEKLY
from control_api.journal.tokens import Identity
from control_api.store.database import WriteSession
from control_api.store.tables import data_keys, installation_keys, metadata, sessions
from control_api.vault.client import Vault
from control_api.vault.transit import TransitKeys
from orchestrator_runtime.contract.errors import Conflict, NotFound, Problem
from tests.fakes.vault_server import vault
from tests.integration.encryption.rotating import CLOCK, ORGANIZATION, Started, started
from tests.integration.encryption.values import expected, fill, read, sealed_values

OTHER = "org-2"
KEPT = {("data_keys", "wrapped"), ("installation_keys", "wrapped")}  # keys, wrapped
ADDRESSES = {("payloads", "address"), ("run_events", "payload")}  # keyed hashes: labels that open nothing
PROGRAM = "tests.integration.encryption.rotation_program"


async def fill_both(server: Started) -> None:
    for organization in (ORGANIZATION, OTHER):
        await server.database.write(partial(fill, keys=server.keys, organization=organization))


async def everything_is_there(server: Started, organization: str = ORGANIZATION) -> None:
    wanted = await server.database.read(expected)
    assert await server.database.read(lambda session: read(session, server.keys, organization)) == wanted


async def wrapped_keys(server: Started) -> set[bytes]:
    query = select(data_keys.c.wrapped)
    return await server.database.read(lambda session: {bytes(key) for key in session.execute(query).scalars()})


def test_every_column_of_bytes_is_sealed_or_named_here_with_its_reason() -> None:
    listed = {(column.table.name, column.column) for column in (*STANDING, *WEEKLY)}
    bytes_ = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert bytes_ - listed == KEPT | ADDRESSES


async def test_everything_is_sealed_anew_and_the_former_key_destroyed(database_url: str, masters: FileKeys) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)
        before = await server.database.read(lambda session: sealed_values(session, ORGANIZATION))
        others = await server.database.read(lambda session: sealed_values(session, OTHER))
        view = await server.service.rotate(ORGANIZATION)
        assert (view.version, view.former_versions) == (2, 1)
        assert view.since == view.master_since == CLOCK.now()
        await everything_is_there(server)
        await server.resealing.finish(ORGANIZATION)
        view = await server.service.look(ORGANIZATION)
        assert (view.version, view.former_versions, view.unreadable) == (2, 0, 0)
        await everything_is_there(server)
        assert not set(before) & set(await server.database.read(lambda session: sealed_values(session, ORGANIZATION)))
        assert await server.database.read(lambda session: sealed_values(session, OTHER)) == others
    async with started(database_url, masters) as server:
        await everything_is_there(server)
        await everything_is_there(server, OTHER)


async def test_more_rows_than_one_look_takes_are_all_sealed_anew(database_url: str, masters: FileKeys) -> None:
    async with started(database_url, masters) as server:
        await server.database.write(lambda session: fill(session, server.keys, ORGANIZATION, rows=255))
        await server.service.rotate(ORGANIZATION)
        await server.resealing.finish(ORGANIZATION)
        prefixes = await server.database.read(lambda session: server.keys.of(session, ORGANIZATION).prefixes)
        values = await server.database.read(lambda session: sealed_values(session, ORGANIZATION))
        assert all(value.startswith(prefixes) for value in values)


async def test_what_is_written_during_a_rotation_is_readable_after_it(database_url: str, masters: FileKeys) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)

        def write(session: WriteSession, number: int) -> None:
            sealed = server.keys.of(session, ORGANIZATION).seal(b"%d" % number, b"session/agent 0/id 0")
            this = (sessions.c.organization == ORGANIZATION) & (sessions.c.id == "id 0")
            session.execute(update(sessions).where(this).values(state=sealed))

        async def keep_writing() -> int:
            number = 0
            while not rotated.done():
                await server.database.write(partial(write, number=number))
                await server.database.read(lambda session: read(session, server.keys, ORGANIZATION))
                number += 1
            return number - 1

        async def rotate() -> None:
            for _ in range(3):
                await server.service.rotate(ORGANIZATION)
                await server.resealing.finish(ORGANIZATION)

        rotated = asyncio.create_task(rotate())
        last = await keep_writing()
        await rotated
        found = await server.database.read(lambda session: read(session, server.keys, ORGANIZATION))
        assert found["sessions.state"][0] == b"%d" % last
        assert await server.database.read(unfinished) == []


async def test_a_second_rotation_waits_for_the_first(database_url: str, masters: FileKeys) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)
        await server.service.rotate(ORGANIZATION)
        with pytest.raises(Conflict) as refused:
            await server.service.rotate(ORGANIZATION)
        assert refused.value.code == "rotation_unfinished"


async def test_a_value_that_nothing_opens_keeps_every_version(database_url: str, masters: FileKeys) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)
        damage = update(sessions).where(sessions.c.organization == ORGANIZATION, sessions.c.id == "id 1")
        await server.database.write(lambda session: session.execute(damage.values(state=b"\0" * 60)) and None)
        await server.service.rotate(ORGANIZATION)
        await server.resealing.finish(ORGANIZATION)
        view = await server.service.look(ORGANIZATION)
        assert (view.former_versions, view.unreadable) == (1, 1)


async def test_the_worker_goes_on_with_what_a_restart_cut_off(database_url: str, masters: FileKeys) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)
        await server.service.rotate(ORGANIZATION)
    async with started(database_url, masters) as server:
        worker = asyncio.create_task(server.resealing.run())
        async with asyncio.timeout(10):
            while await server.database.read(unfinished):
                await asyncio.sleep(0)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await everything_is_there(server)


async def test_a_new_master_key_wraps_everything_and_the_one_before_opens_nothing(
    database_url: str, masters: FileKeys, tmp_path: Path
) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)
        before = masters.current()
        former = await wrapped_keys(server)
        view = await server.service.rotate_master(ORGANIZATION)
        assert view.master == masters.current().id != before.id
        await everything_is_there(server)
        assert not former & await wrapped_keys(server)
        wrapped = await server.database.read(
            lambda session: session.execute(
                select(installation_keys.c.wrapped).where(installation_keys.c.name == "installation")
            ).scalar_one()
        )
        with pytest.raises(Conflict):
            before.unwrap(bytes(wrapped), "installation")
        await server.database.write(lambda session: fill(session, server.keys, "org-3"))
    async with started(database_url, FileKeys(tmp_path / "master.key")) as server:
        for organization in (ORGANIZATION, OTHER, "org-3"):
            await everything_is_there(server, organization)


async def test_tokens_of_before_a_rotation_are_good_as_long_as_they_live(database_url: str, masters: FileKeys) -> None:
    identity = Identity(ORGANIZATION, "agent", "agent-00001", "i-1")
    async with started(database_url, masters) as server:
        await fill_both(server)
        token, _ = server.tokens.mint(identity)
        await server.service.rotate_master(ORGANIZATION)
        assert server.tokens.verify(token) == identity
        assert server.tokens.mint(identity)[0] != token
    async with started(database_url, masters) as server:
        assert server.tokens.verify(token) == identity
        await server.service.rotate_master(ORGANIZATION)
        await server.service.rotate_master(ORGANIZATION)
        with pytest.raises(Problem):
            server.tokens.verify(token)


async def test_a_vault_that_goes_away_later_stops_nothing_but_a_rotation(database_url: str) -> None:
    with vault() as running:
        masters = TransitKeys(Vault(running.settings, pause=lambda seconds: None), running.settings)
        async with started(database_url, masters) as server:
            await fill_both(server)
            running.seal()
            await everything_is_there(server)
            await server.database.write(lambda session: fill(session, server.keys, "org-3"))
            await server.service.rotate(ORGANIZATION)
            await server.resealing.finish(ORGANIZATION)
            await everything_is_there(server)
            with pytest.raises(Problem) as refused:
                await server.service.rotate_master(ORGANIZATION)
            assert refused.value.code == "vault_sealed"
            await everything_is_there(server, OTHER)
        with pytest.raises(Problem) as refused:
            async with started(database_url, masters):
                pass
        assert refused.value.code == "vault_sealed"
        running.unseal()
        async with started(database_url, masters) as server:
            await server.service.rotate_master(ORGANIZATION)
            for organization in (ORGANIZATION, OTHER, "org-3"):
                await everything_is_there(server, organization)


@pytest.mark.parametrize("kind", ["organization", "master"])
async def test_a_kill_at_any_step_of_a_rotation_loses_nothing(
    database_url: str, masters: FileKeys, tmp_path: Path, kind: str
) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)
    step = 0
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        step += 1
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", PROGRAM, database_url, str(tmp_path), kind, str(step)
        )
        code = await program.wait()
        async with started(database_url, FileKeys(tmp_path / "master.key")) as server:
            await everything_is_there(server)
            await everything_is_there(server, OTHER)
            for organization in await server.database.read(unfinished):
                await server.resealing.finish(organization)
            await everything_is_there(server)
            assert not list(tmp_path.glob("master.key.next"))
    assert code == 0
    assert step > 5, "it was killed at every step there is"


async def test_a_deleted_organization_s_key_is_gone_and_others_are_not(database_url: str, masters: FileKeys) -> None:
    async with started(database_url, masters) as server:
        await fill_both(server)
        query = select(data_keys.c.wrapped).where(data_keys.c.organization == ORGANIZATION)
        wrapped = await server.database.read(lambda session: bytes(session.execute(query).scalar_one()))
        await server.database.write(lambda session: server.keys.destroy(session, ORGANIZATION))
        server.keys.forget(ORGANIZATION)
        with pytest.raises(NotFound):
            await server.database.read(lambda session: server.keys.of(session, ORGANIZATION))
        await everything_is_there(server, OTHER)
        left = select(func.count()).select_from(data_keys).where(data_keys.c.organization == ORGANIZATION)
        assert await server.database.read(lambda session: session.execute(left).scalar_one()) == 0
    if database_url.startswith("sqlite"):
        path = Path(database_url.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert wrapped not in path.read_bytes(), "the page still holds it"
