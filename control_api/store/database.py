"""The database: reads in threads, and one writer thread with group commit.

Whatever is queued while a commit runs goes into the next transaction, without a timer. `write` runs any function in a
savepoint of its own; a `Lane` takes all of its queued items at once (the journal's hot path). Outcomes are told after
the commit, so whoever is answered can rely on it, and before the next batch begins.

On SQLite this process is the only writer; PostgreSQL takes as many as there are servers.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, NewType, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from control_api.store.engines import open_engine
from orchestrator_runtime.contract.errors import Unavailable

ReadSession = NewType("ReadSession", Connection)
"""Sees a consistent state and can change nothing."""
WriteSession = NewType("WriteSession", ReadSession)
"""May change things; only ever given to a function that `Database.write` or a lane runs."""

logger = logging.getLogger("database")

Result = TypeVar("Result")
READERS = 4  # threads; SQLite reads scale with cores, and more would only fight for the interpreter


class Lane(Protocol):
    """Executes many queued items in one go."""

    def execute(self, session: WriteSession, items: Sequence[Any]) -> Sequence[Any]:
        """One outcome per item, for whoever queued it; an exception as an outcome is an error of that item alone.

        Raising rolls the whole batch back; its items are then tried one by one, so one bad item fails alone.
        """
        ...


class Functions:
    """The lane behind `Database.write`."""

    def execute(self, session: WriteSession, items: Sequence[Callable[[WriteSession], Any]]) -> list[Any]:
        outcomes: list[Any] = []
        for work in items:
            try:
                with savepoint(session):
                    outcomes.append(work(session))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever queued the function
                outcomes.append(error)
        return outcomes


@contextmanager
def savepoint(session: WriteSession) -> Iterator[None]:
    """Undo what is done within if it raises. Past SQLAlchemy, where a savepoint costs more than the rest of a batch."""
    execute = session.connection.driver_connection.execute  # type: ignore[union-attr] # sqlite3 and psycopg have it
    execute("SAVEPOINT batch")
    try:
        yield
    except BaseException:
        execute("ROLLBACK TO SAVEPOINT batch")
        raise
    finally:
        execute("RELEASE SAVEPOINT batch")


class _Queued(NamedTuple):
    lane: Lane
    item: Any
    settle: Callable[[Any], None]


class Database:
    """Reads and writes for one event loop; made by `open_database`."""

    def __init__(self, *, reader: Engine, writer: Engine) -> None:
        self.dialect = writer.dialect.name
        self._errors = (DBAPIError, writer.dialect.loaded_dbapi.Error)  # SQLAlchemy's, and the driver's own (`bulk`)
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._functions = Functions()
        self._kept: Connection | None = None  # the writer thread's own
        self._pending: list[_Queued] = []
        self._busy = False
        self._batches: queue.SimpleQueue[list[_Queued] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_batches, name="database-writer", daemon=True)
        self._thread.start()

    async def read(self, work: Callable[[ReadSession], Result]) -> Result:
        """Run `work` in a thread, in one read transaction.

        Raises what `work` raised, or `Unavailable` (`storage_unavailable`) for an error of the database itself.
        """

        def reading() -> Result:
            try:
                with self._reader.connect() as connection:
                    return work(ReadSession(connection))
            except self._errors as error:
                raise self._unavailable(error, "The database did not answer") from error

        return await self._loop.run_in_executor(self._readers, reading)

    async def write(self, work: Callable[[WriteSession], Result]) -> Result:
        """Run `work` in the writer thread, in a savepoint of its own; returns its result after the commit.

        Raises what `work` raised (its changes are gone, those of others in the same commit are not), or `Unavailable`
        (`storage_unavailable`) when the commit failed.
        """
        written: asyncio.Future[Result] = self._loop.create_future()
        self.enqueue(self._functions, work, partial(_settle, written))
        return await written

    def enqueue(self, lane: Lane, item: Any, settle: Callable[[Any], None]) -> None:
        """Queue one item for `lane`; `settle` is called with its outcome, or an exception, after the commit.

        Must be called in the loop, where `settle` is called, too; that must neither block nor raise.
        """
        if not self._pending and not self._busy:
            self._loop.call_soon(self._hand_over)
        self._pending.append(_Queued(lane, item, settle))

    @property
    def waiting(self) -> int:
        """How many items are queued for the next commit."""
        return len(self._pending)

    async def close(self) -> None:
        """Finish what is queued, then close every connection."""
        await self.write(lambda session: None)  # the last of the queue
        self._batches.put(None)
        await self._loop.run_in_executor(self._readers, self._thread.join)
        self._readers.shutdown()
        if self._kept is not None:
            self._kept.close()
        self._reader.dispose()
        self._writer.dispose()

    # in the loop

    def _hand_over(self) -> None:
        if self._pending and not self._busy:
            self._busy = True
            batch, self._pending = self._pending, []
            self._batches.put(batch)

    def _settle(self, batch: list[_Queued], outcomes: list[Any]) -> None:
        for queued, outcome in zip(batch, outcomes, strict=True):
            try:
                queued.settle(outcome)
            except Exception:  # a border: a defect there must not keep the others from their outcomes
                logger.exception("An outcome could not be told")
        self._busy = False
        self._hand_over()

    # in the writer thread

    def _write_batches(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                outcomes = self._write(batch)
            except Exception as error:  # noqa: BLE001 - nothing was committed; the writer must outlive it
                outcomes = [self._unavailable(error)] * len(batch)
            self._loop.call_soon_threadsafe(self._settle, batch, outcomes)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction of the writer, committed at the end.

        SQLite's connection is kept: to fetch it from the pool and give it back costs more than a small batch. One of
        PostgreSQL may have been closed by its server, which the pool finds out.
        """
        if self.dialect != "sqlite":
            with self._writer.begin() as connection:
                yield connection
            return
        if self._kept is None:
            self._kept = self._writer.connect()
        try:
            with self._kept.begin():
                yield self._kept
        except BaseException:
            self._kept.close()
            self._kept = None
            raise

    def _write(self, batch: list[_Queued]) -> list[Any]:
        lanes: dict[int, list[int]] = {}
        for index, queued in enumerate(batch):
            lanes.setdefault(id(queued.lane), []).append(index)
        outcomes: list[Any] = [None] * len(batch)
        with self._transaction() as connection:
            session = WriteSession(ReadSession(connection))
            for indexes in lanes.values():
                lane = batch[indexes[0]].lane
                results = self._execute(session, lane, [batch[index].item for index in indexes])
                for index, result in zip(indexes, results, strict=True):
                    outcomes[index] = result
        return outcomes

    def _execute(self, session: WriteSession, lane: Lane, items: list[Any]) -> Sequence[Any]:
        try:
            with savepoint(session):
                return lane.execute(session, items)
        except Exception as error:
            if self.dialect == "sqlite" and not session.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
                raise  # a full disk has undone the whole transaction
            if len(items) == 1:
                return [self._unavailable(error)]
        return [outcome for item in items for outcome in self._execute(session, lane, [item])]

    def _unavailable(self, error: Exception, detail: str = "The database did not take the change") -> Exception:
        """What callers get for an error of the database itself; anything else stays what it is."""
        if not isinstance(error, self._errors):
            return error
        logger.error("%s: %s", detail, getattr(error, "orig", None) or error)  # without values: they are users'
        problem = Unavailable(
            detail,
            code="storage_unavailable",
            hint="Nothing was lost that was acknowledged. Look at the server's log, and at the space left on the disk.",
        )
        problem.__cause__ = error
        return problem


def _settle(written: asyncio.Future[Any], outcome: Any) -> None:
    if written.done():
        return  # whoever asked has gone; the change stands
    if isinstance(outcome, BaseException):
        written.set_exception(outcome)
    else:
        written.set_result(outcome)


def open_database(url: str) -> Database:
    """Open a database that has been migrated. Must be called in the event loop that will use it."""
    return Database(reader=open_engine(url, writing=False), writer=open_engine(url, writing=True))
