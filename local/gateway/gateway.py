"""The gateway itself: what a request is for, who may send it, and which exchange answers it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from domain.clock import Clock
from local.gateway.addresses import limited_as
from local.gateway.agent_call import AgentCall, Dispatched, Identity, Surroundings
from local.gateway.api_call import ApiCall
from local.gateway.body_budget import BodyBudget
from local.gateway.client import ClientConnection
from local.gateway.connections import Connections
from local.gateway.exchange import Exchange
from local.gateway.heads import OWN_LINES, SECURE_LINE, answer, one_line
from local.gateway.links import Link
from local.gateway.metrics import Page, Signals
from local.gateway.rates import Rates
from local.gateway.requests import Request
from local.gateway.revisions import Engine, ServedRevision
from local.gateway.routes import (
    AGENT_PATH,
    Credential,
    RevisionKey,
    RevisionRoute,
    Route,
    Table,
    authorise,
    parse_table,
)
from local.gateway.settings import Settings
from local.gateway.sign_ins import SignIns, presented
from local.gateway.submit_call import SubmitCall, asks_for_async
from local.gateway.upstream import Origin
from orchestrator_runtime.contract import headers
from orchestrator_runtime.contract.errors import NotFound, Problem, Unauthenticated, Unavailable
from orchestrator_runtime.contract.ids import uuid7
from orchestrator_runtime.contract.wire import Message, Peer

logger = logging.getLogger("gateway")

CORRELATION = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
TAG_HEADER = b"orchestrator-tag"
PUBLIC_CALLER = "public"


class Gateway:
    """Owns the state; `process.py` gives it sockets and calls its ticks."""

    def __init__(self, settings: Settings, *, clock: Clock, random: Callable[[], float]) -> None:
        self.limits = settings.limits
        self.draining = False
        self.table = Table()
        self.clients: set[ClientConnection] = set()
        self.connections = Connections(each=self.limits.address_connections, at_most=self.limits.connections)
        self.failed_handshakes = 0
        self.revisions: dict[RevisionKey, ServedRevision] = {}
        self.on_instance_exited: Callable[[str], None] = lambda instance: None
        self.more_metrics: Callable[[Page], None] = lambda page: None
        self._settings = settings
        self._clock = clock
        self._random = random
        self._api = Origin(str(settings.api_socket))
        self._api_signals = Signals()
        self._refused = Signals()
        self._turned_away = 0
        self._rates = Rates(self.limits)
        self._sign_ins = SignIns(at_once=self.limits.wrong_tokens, pause=self.limits.wrong_token_pause)
        self._unknown: dict[str, Mapping[str, Any]] = {}  # instances whose revision was not pushed yet
        self._used: set[str] = set()  # digests of credentials that were let in since the server was told last
        self._tasks: set[asyncio.Task[None]] = set()
        self._routed = asyncio.Event()
        self._quiet = asyncio.Event()
        self.server = Link(
            "server",
            settings.control_socket,
            {
                "routes": self._routes,
                "routes.applied": lambda peer, message: Message(),  # messages are handled in order
                "run.dispatch": self._dispatch,
                "revision.probe": self._probe,
                "instance.replace": self._replace,
                "metrics": self._metrics,
            },
            greet=self._greet_server,
        )
        self.supervisor = Link(
            "supervisor",
            settings.supervisor_socket,
            {"instance.ready": self._instance_ready, "instance.exited": self._instance_exited},
            greet=self._greet_supervisor,
        )
        self._engine = Engine(
            clock=clock,
            random=random,
            start=self._start_instance,
            stop=self._stop_instance,
            spawn=self.spawn,
            report=lambda status: self.server.notify("revision.status", dict(status)),
        )
        self.bodies = BodyBudget(self.limits.waiting_bytes)
        self._around = Surroundings(
            clock=clock,
            limits=self.limits,
            bodies=self.bodies,
            journal=self.server,
            spawn=self.spawn,
        )

    # Front: what a connection needs

    def now(self) -> float:
        return self._clock.monotonic()

    def limited_as(self, peer: str) -> str | None:
        return limited_as(peer, self.limits.exempt)

    def turned_away(self) -> bool:
        self._turned_away += 1
        return len(self.clients) < self.limits.connections

    def opened(self, client: ClientConnection) -> None:
        self.clients.add(client)

    def closed(self, client: ClientConnection) -> None:
        self.clients.discard(client)
        if not self.clients:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no caller is connected."""
        if self.clients:
            self._quiet.clear()
            await self._quiet.wait()

    def begin(self, client: ClientConnection, request: Request) -> Exchange | bytes:
        """Decide by host and path. Raises `Problem`."""
        try:
            return self._begin(client, request)
        except Problem as problem:
            self._refused.answered(problem.status, 0.0)
            raise

    def _begin(self, client: ClientConnection, request: Request) -> Exchange | bytes:
        credential = None
        if client.limited_as is not None:
            credential = self._credential(request.first.get(b"authorization"))
            self._rates.check(client.limited_as, credential, self.now())
        host = request.first.get(b"host", b"")
        if b".localhost" in host:
            named = self.table.by_host(host)
            if named is not None:
                route, tag = named
                target = request.target
                return self._agent(client, request, credential, route, agent=route.agent, tag=tag, target=target)
        path = request.path
        if path.startswith(b"/agents/"):
            return self._agent_by_path(client, request, credential)
        if path.startswith(b"/api/v1/") or path == b"/api/v1":
            self._throttle(client.peer, request)
            call = ApiCall(
                request,
                client,
                origin=self._api,
                limits=self.limits,
                correlation=_correlation(request) or uuid7(),
                clock=self._clock,
                signals=self._api_signals,
                spawn=self.spawn,
                refused=self._wrong_token,
            )
            client.exchange = call
            call.start()
            return call
        if path == b"/healthz":
            fields = (*OWN_LINES, SECURE_LINE) if client.secure else OWN_LINES
            return answer(200, b'{"status":"ok"}', content_type="application/json", fields=fields)
        raise NotFound("Nothing is here", code="not_found", hint="The API is at /api/v1, agents are at /agents/NAME.")

    def _agent_by_path(self, client: ClientConnection, request: Request, credential: Credential | None) -> Exchange:
        match = AGENT_PATH.fullmatch(request.path)
        if match is None:
            raise NotFound(
                "An agent's name has lower case letters, digits and dashes",
                code="agent_unknown",
                hint="`orchestrator ls` lists them; agents are at /agents/NAME.",
            )
        target = (match[2] or b"/") + (b"?" + request.query if request.query else b"")
        found = request.first.get(TAG_HEADER)
        tag = found.decode("latin-1") if found else None
        return self._agent(client, request, credential, None, agent=match[1].decode(), tag=tag, target=target)

    def _agent(
        self,
        client: ClientConnection,
        request: Request,
        credential: Credential | None,
        route: Route | None,
        *,
        agent: str,
        tag: str | None,
        target: bytes,
    ) -> Exchange:
        if not self._routed.is_set():
            raise Unavailable("The platform is just starting", code="starting", hint="Try again in a moment.")
        if client.limited_as is None:  # else it was looked up for its rate
            credential = self._credential(request.first.get(b"authorization"))
        if credential is not None:
            self._used.add(credential.digest)
        by_path = route is None
        if route is None:
            route = self.table.by_path(agent, credential)
        try:
            route = authorise(route, credential, agent=agent)
        except Unauthenticated:
            self._throttle(client.peer, request)
            self._wrong_token(request, client.peer)
            raise
        picked = route.pick(tag, self._random())
        run = uuid7()
        identity = Identity(
            run=run,
            caller=credential.name if credential and credential.organization == route.organization else PUBLIC_CALLER,
            correlation=_correlation(request) or run,
        )
        call: AgentCall | SubmitCall
        if asks_for_async(request):
            call = SubmitCall(
                request,
                client,
                around=self._around,
                route=picked,
                identity=identity,
                target=target,
                body_limit=route.payload_limit,
            )
        else:
            call = AgentCall(
                request,
                client,
                around=self._around,
                revision=self.revisions[picked.key],
                identity=identity,
                target=target,
                body_limit=route.payload_limit,
                withhold_credential=credential is not None,
                guest=by_path,
            )
        client.exchange = call
        call.start()
        return call

    def _credential(self, authorization: bytes | None) -> Credential | None:
        return self.table.credential(authorization, now=self._clock.now().timestamp())

    def _throttle(self, peer: str, request: Request) -> None:
        """Raises `TooMany` for one more token that is not known here, after many wrong ones."""
        if self._sign_ins.quiet:
            return
        token = presented(request.first.get(b"authorization"))
        if token is not None and self._credential(b"Bearer " + token) is None:
            self._sign_ins.check(peer, token, self.now())

    def _wrong_token(self, request: Request, peer: str) -> None:
        token = presented(request.first.get(b"authorization"))
        if token is not None:
            self._sign_ins.failed(peer, token, self.now())

    # background work

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background, until done or `stop`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("Background work failed", exc_info=task.exception())

    def sweep(self) -> None:
        """Several times a second: end what took too long."""
        now = self.now()
        for client in list(self.clients):
            client.check(now)

    def measure(self) -> None:
        """Every second."""
        now = self.now()
        self._rates.forget(now)
        self._sign_ins.forget(now)
        for revision in self.revisions.values():
            revision.measure()

    def decide(self) -> None:
        """Every two seconds."""
        for revision in self.revisions.values():
            revision.decide()
        if self._used:
            used, self._used = self._used, set()
            self.server.notify("credentials.used", {"digests": sorted(used)})

    def probe(self) -> None:
        """Every `PROBE_EVERY` seconds."""
        for revision in self.revisions.values():
            revision.probe(within=self.limits.probe_timeout)

    @property
    def open_calls(self) -> int:
        return sum(client.exchange is not None for client in self.clients)

    async def stop(self) -> None:
        """Close every connection and end all background work."""
        for client in list(self.clients):
            client.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._api.close()
        for revision in self.revisions.values():
            for instance in (*revision.ready, *revision.retiring):
                instance.origin.close()

    # the server

    async def _greet_server(self, peer: Peer) -> None:
        await peer.call("gateway.hello")
        for revision in self.revisions.values():
            revision.tell_again()

    async def routed(self) -> None:
        """Wait for the first routes."""
        await self._routed.wait()

    def _routes(self, peer: Peer, message: Message) -> None:
        self.apply(parse_table(message.fields, zero_grace=self._settings.zero_grace))

    def apply(self, table: Table) -> None:
        """Serve what this table says, from now on."""
        self.table = table
        served = {route.key: route for agent in table.agents.values() for route in agent.revisions.values()}
        for key, revision in list(self.revisions.items()):
            if key not in served:
                revision.retire_all()
                if not revision.busy and not revision.starting:
                    del self.revisions[key]
        for key, route in served.items():
            if key in self.revisions:
                self.revisions[key].route = route
            else:
                self.revisions[key] = ServedRevision(route, engine=self._engine, queue_depth=self.limits.queue_depth)
        self._routed.set()
        unknown, self._unknown = self._unknown, {}
        for info in unknown.values():
            self._adopt(info)

    async def _dispatch(self, peer: Peer, message: Message) -> Message:
        """Send a run that is already recorded to an instance; replies with the status that the instance gave.

        Raises the problem for which it got none.
        """
        fields = message.fields
        route = self.table.revision(fields.get("organization"), fields["revision"])
        asked = fields["request"]
        path = asked.get("path") or "/"
        target = path + (f"?{asked['query']}" if asked.get("query") else "")
        lines = [(b"host", f"{route.agent}.localhost".encode())]
        if asked.get("content_type"):
            lines.append((b"content-type", asked["content_type"].encode("latin-1", "replace")))
        if fields.get("traceparent"):
            lines.append((headers.TRACEPARENT.encode(), one_line(fields["traceparent"]).encode("latin-1", "replace")))
        request = Request(
            str(asked.get("method") or "POST").encode(), target.encode("latin-1", "replace"), lines, modern=True
        )
        request.length = len(message.body)
        caller = Dispatched()
        call = AgentCall(
            request,
            caller,
            around=self._around,
            revision=self.revisions[route.key],
            identity=Identity(
                run=fields["run"],
                caller=fields.get("caller") or "platform",
                correlation=fields.get("correlation") or fields["run"],
                dispatched=True,
            ),
            target=request.target,
            body_limit=len(message.body),
            timeout=float(fields["deadline"]) if fields.get("deadline") else None,
        )
        if message.body:
            call.request_body(message.body)
        call.request_ended()
        call.start()
        await caller.ended
        if call.problem is not None:
            raise call.problem
        return Message({"status": call.status or 502})

    async def _probe(self, peer: Peer, message: Message) -> Message:
        route = self.table.revision(message.fields.get("organization"), message.fields["revision"])
        revision = self.revisions[route.key]
        if not revision.ready:
            await revision.start_one()
        return Message(revision.status("ready"))

    def _replace(self, peer: Peer, message: Message) -> None:
        """The server has given up on what an instance works on."""
        fields = message.fields
        revision = self.revisions.get((fields["organization"], fields["revision"]))
        if revision is not None:
            revision.replace(fields["instance"], grace=float(fields["grace"]))

    def _metrics(self, peer: Peer, message: Message) -> Message:
        return Message({"text": self.metrics()})

    # the supervisor

    async def _greet_supervisor(self, peer: Peer) -> None:
        reply = await peer.call("subscribe", {"role": "gateway"})
        for info in reply.fields.get("instances", ()):
            if info.get("state") == "ready":
                self._adopt(info)

    def _adopt(self, info: Mapping[str, Any]) -> None:
        """Use an instance that is there; what nobody serves any more is stopped."""
        revision = self.revisions.get((info["organization"], info["revision"]))
        if revision is not None:
            revision.add(info)
        elif self._routed.is_set():
            self.spawn(self._dismiss(info["instance"]))
        else:
            self._unknown[info["instance"]] = info

    async def _dismiss(self, instance: str) -> None:
        try:
            await self._stop_instance(instance, self._settings.drain)
        except Problem as problem:  # it has gone already
            logger.info("%s could not be stopped: %s", instance, problem)

    def _instance_ready(self, peer: Peer, message: Message) -> None:
        self._adopt(message.fields)

    def _instance_exited(self, peer: Peer, message: Message) -> None:
        fields = message.fields
        self._unknown.pop(fields["instance"], None)
        self.on_instance_exited(fields["instance"])
        revision = self.revisions.get((fields["organization"], fields["revision"]))
        if revision is not None:
            revision.gone(fields["instance"], reason=str(fields.get("reason", "exited")))

    async def _start_instance(self, route: RevisionRoute) -> Mapping[str, Any]:
        reply = await self.supervisor.call_once(
            "instance.start",
            {
                "organization": route.organization,
                "revision": route.name,
                "environment": dict(route.environment),
                "source": route.source,
                "start": dict(route.start),
                "start_timeout": route.start_timeout,
                "secrets": list(route.secrets),
            },
        )
        return reply.fields

    async def _stop_instance(self, instance: str, grace: float) -> None:
        await self.supervisor.call_once("instance.stop", {"instance": instance, "grace": grace, "reason": "scaled"})

    # metrics

    def metrics(self) -> str:
        """The golden signals, in Prometheus' text format."""
        page = Page()
        page.signals("orchestrator_api", "the control API", [({}, self._api_signals)])
        page.signals("orchestrator_gateway_refused", "the gateway itself, with a problem", [({}, self._refused)])
        page.family(
            "orchestrator_gateway_connections", "gauge", "Open connections of callers.", [({}, len(self.clients))]
        )
        page.family(
            "orchestrator_gateway_turned_away_total",
            "counter",
            "Connections beyond what there may be, of one address or of all.",
            [({}, self._turned_away)],
        )
        page.family(
            "orchestrator_gateway_failed_handshakes_total",
            "counter",
            "Connections that ended before TLS was agreed on.",
            [({}, self.failed_handshakes)],
        )
        page.family("orchestrator_gateway_in_flight", "gauge", "Calls in progress.", [({}, self.open_calls)])
        revisions = [(_labels(revision), revision) for revision in self.revisions.values()]
        page.signals("orchestrator_agent", "agents", [(names, revision.signals) for names, revision in revisions])
        for name, text, value in (
            ("in_flight", "Calls that instances work on.", lambda revision: revision.busy - len(revision.waiting)),
            ("queue", "Calls that wait for an instance.", lambda revision: len(revision.waiting)),
            ("instances", "Ready instances.", lambda revision: len(revision.ready)),
            ("desired_instances", "Instances that the autoscaler wants.", lambda revision: revision.desired),
        ):
            page.family(
                f"orchestrator_agent_{name}", "gauge", text, [(names, value(each)) for names, each in revisions]
            )
        self.more_metrics(page)
        return page.text()


def _labels(revision: ServedRevision) -> dict[str, object]:
    route = revision.route
    return {"organization": route.organization, "agent": route.agent, "revision": route.name}


def _correlation(request: Request) -> str | None:
    """The caller's correlation id, if it is one that can stand in a header field and a log line."""
    given = request.first.get(headers.CORRELATION_ID.encode())
    return given.decode() if given is not None and CORRELATION.fullmatch(given) else None
