"""journal.sock: the wire protocol (`contract.journal`) for instances, each scoped to what its token says.

A connection that is lost takes along what it was still waiting for: nobody is granted a run who is not there.

Every sandbox can reach this socket, so who has not said hello may hardly do anything, and there are only so many of
them (`strangers`); what others may take is in `limits` and held to in `connection`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from control_api.journal import reading, sessions
from control_api.journal.connection import InstanceConnection
from control_api.journal.limits import Account, Limits, Pool
from control_api.journal.operations import Operation
from control_api.journal.requests import WRITES, count, invalid, optional_text, text
from control_api.journal.service import Answer, Journal
from control_api.journal.stored_checkpoints import CheckpointReader
from control_api.journal.strangers import RefusalLog, Strangers
from control_api.journal.tokens import Identity, Tokens
from control_api.store.database import ReadSession
from orchestrator_runtime.contract import spans
from orchestrator_runtime.contract.errors import BadInput, TooMany, Unauthenticated
from orchestrator_runtime.contract.journal import OLDEST_PROTOCOL, PROTOCOL_VERSION
from orchestrator_runtime.contract.wire import Handler, Message, Peer

TakeSpans = Callable[[Identity, list[spans.Span]], None]

BACKLOG = 4096  # connections that wait to be accepted; the system refuses what goes beyond


class JournalServer:
    """Serves instances; there may be several connections of one."""

    def __init__(
        self, journal: Journal, tokens: Tokens, *, limits: Limits | None = None, take_spans: TakeSpans | None = None
    ) -> None:
        self._journal = journal
        self._tokens = tokens
        self._limits = limits or Limits()
        self._take_spans = take_spans
        self._connections: dict[Peer, Identity] = {}
        self._accounts: dict[str, Account] = {}  # by instance
        self._pools: dict[str, Pool] = {}  # by organization
        self._open: set[InstanceConnection] = set()
        self._strangers = Strangers(self._limits.early_connections)
        self._refusals = RefusalLog(journal.clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Handler] = {
            "hello": self._hello,
            "recorded": self._recorded,
            "checkpoint.get": self._get_checkpoint,
            "checkpoint.list": self._list_checkpoints,
            "session.get": self._get_session,
            "spans": self._spans,
            **{name: partial(self._write, parse) for name, parse in WRITES.items()},
        }
        journal.on_cancel(self._tell_to_stop)

    async def serve(self, listening: socket.socket) -> None:
        """Accept instances until cancelled; then break every connection."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(self._accept, sock=listening, backlog=BACKLOG)
        try:
            await server.serve_forever()
        finally:
            server.close()
            for peer in list(self._open):
                peer.close()
            for task in self._tasks:
                task.cancel()

    # connections

    def _accept(self) -> Peer:
        return InstanceConnection(
            self._handlers,
            limits=self._limits,
            fetch=self._journal.fetch,
            on_connected=self._connected,
            on_lost=self._lost,
            on_refused=self._refusals.note,
        )

    def _connected(self, connection: InstanceConnection) -> None:
        self._open.add(connection)
        self._strangers.came(connection)

    def _lost(self, connection: InstanceConnection) -> None:
        self._open.discard(connection)
        self._strangers.left(connection)
        identity = self._connections.pop(connection, None)
        if identity is not None and self._accounts[identity.instance].connections == 0:
            del self._accounts[identity.instance]

    def _hello(self, peer: Peer, message: Message) -> Message:
        protocol = count(message.fields, "protocol")
        if protocol < OLDEST_PROTOCOL:
            raise BadInput(
                f"Version {protocol} of the journal protocol is not spoken any more",
                code="protocol_too_old",
                hint="Deploy the agent again: it then gets today's runtime.",
            )
        identity = self._tokens.verify(text(message.fields, "token"))
        assert isinstance(peer, InstanceConnection)
        if peer not in self._connections:
            self._greet(peer, identity)
        elif self._connections[peer] != identity:
            raise BadInput("This connection is another instance's", code="request_invalid")
        self._spawn(self._repeat_cancels(identity))
        return Message({"protocol": min(protocol, PROTOCOL_VERSION)})

    def _greet(self, connection: InstanceConnection, identity: Identity) -> None:
        """Raises `TooMany` (`journal_connections`)."""
        account = self._accounts.get(identity.instance)
        if account is None:
            pool = self._pools.setdefault(identity.organization, Pool(self._limits.pool))
            account = self._accounts[identity.instance] = Account(pool, share=self._limits.share)
        if account.connections >= self._limits.connections:
            problem = TooMany(
                f"Instance {identity.instance} has {account.connections} connections already",
                code="journal_connections",
                hint="One is enough: replies may come in any order.",
            )
            asyncio.get_running_loop().call_soon(connection.refuse, problem)
            raise problem
        self._connections[connection] = identity
        self._strangers.left(connection)
        connection.greeted(account)

    def _identity(self, peer: Peer) -> Identity:
        try:
            return self._connections[peer]
        except KeyError:
            raise Unauthenticated("Say hello first", code="journal_hello_missing") from None

    # operations

    def _write(self, parse: Callable[[Identity, Message], Operation], peer: Peer, message: Message) -> Answer:
        operation = parse(self._identity(peer), message)
        assert isinstance(peer, InstanceConnection)
        return self._journal.execute(operation, peer.take_over())

    async def _read(self, peer: Peer, work: Callable[[ReadSession], Message]) -> Message:
        """A reply that may be large."""
        assert isinstance(peer, InstanceConnection)
        async with peer.turn():
            return await self._journal.database.read(work)

    async def _recorded(self, peer: Peer, message: Message) -> Message:
        identity = self._identity(peer)
        return await self._read(
            peer,
            partial(
                reading.recorded,
                keys=self._journal.keys,
                organization=identity.organization,
                agent=identity.agent,
                run=text(message.fields, "run"),
            ),
        )

    async def _get_checkpoint(self, peer: Peer, message: Message) -> Message:
        identity, fields = self._identity(peer), message.fields
        thread, namespace = text(fields, "thread"), text(fields, "namespace")
        checkpoint = optional_text(fields, "checkpoint")
        return await self._read(
            peer,
            lambda session: self._reader(session, identity).get(
                thread=thread, namespace=namespace, checkpoint=checkpoint
            ),
        )

    async def _list_checkpoints(self, peer: Peer, message: Message) -> Message:
        identity, fields = self._identity(peer), message.fields
        names = ("thread", "namespace", "checkpoint", "before")
        asked = {name: optional_text(fields, name) for name in names}
        limit = None if fields.get("limit") is None else count(fields, "limit")
        wanted = fields.get("filter") or {}
        if not isinstance(wanted, dict):
            raise invalid("filter", "an object")
        return await self._read(
            peer, lambda session: self._reader(session, identity).find(**asked, limit=limit, wanted=wanted)
        )

    async def _get_session(self, peer: Peer, message: Message) -> Message:
        identity = self._identity(peer)
        return await self._read(
            peer,
            partial(
                sessions.get,
                keys=self._journal.keys,
                organization=identity.organization,
                agent=identity.agent,
                name=text(message.fields, "session"),
            ),
        )

    def _spans(self, peer: Peer, message: Message) -> Message:
        """Without a collector they are dropped."""
        identity = self._identity(peer)
        if self._take_spans is not None:
            self._take_spans(identity, spans.parse(message.body))
        return Message({})

    def _reader(self, session: ReadSession, identity: Identity) -> CheckpointReader:
        return CheckpointReader(
            session, keys=self._journal.keys, organization=identity.organization, agent=identity.agent
        )

    # cancel

    def _tell_to_stop(self, instance: str, run: str, grace: float) -> None:
        for peer, identity in self._connections.items():
            if identity.instance == instance:
                peer.notify("cancel", {"run": run, "grace": grace})

    async def _repeat_cancels(self, identity: Identity) -> None:
        """An instance that was not connected when somebody cancelled one of its runs hears of it now."""
        for run, grace in await self._journal.told_to_stop(identity.instance):
            self._tell_to_stop(identity.instance, run, grace)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
