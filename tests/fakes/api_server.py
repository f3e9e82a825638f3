"""The HTTP API and the agents' addresses as a small program in memory: real HTTP on loopback, no platform behind it.

Knows the shapes of answers, not the rules behind them; those are tested where they are.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import ssl
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from builders import bundle
from orchestrator_runtime.contract.errors import PROBLEM_CONTENT_TYPE, NotFound, Problem, Unauthenticated

TOKEN = "orc_test"
MOMENT = "2026-11-24T14:00:00.000Z"
LATER = "2026-11-24T14:00:01.500Z"
RUN = "0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b"


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # break the connection after the body instead of ending it properly


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply(json.dumps(value).encode(), status, headers=headers or {})


def event_stream(*events: tuple[str, Any], first: int = 1, cut: bool = False) -> Reply:
    """Numbered server-sent events."""
    text = "".join(
        f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
        for number, (name, data) in enumerate(events, first)
    )
    return Reply(b": keep-alive\n\n" + text.encode(), content_type="text/event-stream", cut=cut)


def create_agent(name: str, **members: Any) -> dict[str, Any]:
    revision = create_revision(name, 1)
    return {
        "id": "0193a5b0-7c00-7000-8000-000000000001",
        "name": name,
        "version": "0.1.0",
        "digest": "3f1c9a0e" * 8,
        "framework": "plain",
        "url": f"http://127.0.0.1:4100/agents/{name}",
        "state": "idle",
        "access": "organization",
        "scale": {"min": 0, "max": 20},
        "traffic": [{"revision": revision["name"], "percent": 100, "tag": None}],
        "revisions": [revision],
        "created_at": MOMENT,
        "updated_at": MOMENT,
        **members,
    }


def create_revision(agent: str, number: int) -> dict[str, Any]:
    return {
        "name": f"{agent}-{number:05d}",
        "agent": agent,
        "version": "0.1.0",
        "state": "ready",
        "ready_instances": 0,
        "protections": {"namespaces": "in force"},
        "problem": None,
    }


def create_run(agent: str, **members: Any) -> dict[str, Any]:
    return {
        "id": RUN,
        "agent": agent,
        "revision": f"{agent}-00001",
        "state": "succeeded",
        "session": None,
        "problem": None,
        "created_at": MOMENT,
        "ended_at": LATER,
        **members,
    }


@dataclass(slots=True)
class FakePlatform:
    """What it serves, and what it was asked. `answers` are given instead, once each, in order, by "METHOD path"."""

    url: str = ""
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    serving: set[str] = field(default_factory=set)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, list[Reply | Problem]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    def answer(self, what: str, *replies: Reply | Problem) -> None:
        self.answers.setdefault(what, []).extend(replies)

    def asked(self, what: str) -> list[Received]:
        """The requests of one "METHOD path" (with /api/v1), oldest first."""
        return [request for request in self.received if f"{request.method} {request.path}" == what]

    def handle(self, request: Received) -> Reply:
        self.received.append(request)
        what = f"{request.method} {request.path}"
        if self.answers.get(what):
            reply = self.answers[what].pop(0)
            return problem_reply(reply) if isinstance(reply, Problem) else reply
        if request.path == "/healthz":
            return Reply(b"ok", content_type="text/plain")
        try:
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                raise Unauthenticated("Nobody has this token", code="unauthenticated", hint="Take the right one.")
            for pattern, method in ROUTES:
                if found := re.fullmatch(pattern, what):
                    return getattr(self, method)(request, *map(unquote, found.groups()))  # type: ignore[no-any-return]
            raise NotFound(f"There is no {what}", code="not_found")
        except Problem as problem:
            return problem_reply(problem)

    def list_all(self, request: Received, kind: str) -> Reply:
        rows: list[Any] = {
            "agents": list(self.agents.values()),
            "runs": list(self.runs.values()),
            "secrets": [{"name": name} for name in self.secrets],
            "sessions": list(self.sessions.values()),
        }[kind]
        start, limit = int(request.query.get("cursor", 0)), int(request.query.get("limit", 50))
        following = str(start + limit) if start + limit < len(rows) else None
        return json_reply({"items": rows[start : start + limit], "next": following})

    def get_agent(self, request: Received, name: str) -> Reply:
        return json_reply(self._agent(name))

    def delete_agent(self, request: Received, name: str) -> Reply:
        self._agent(name)
        del self.agents[name]
        return Reply(status=204)

    def revisions(self, request: Received, name: str) -> Reply:
        return json_reply({"items": self._agent(name)["revisions"], "next": None})

    def put_traffic(self, request: Received, name: str) -> Reply:
        self._agent(name)["traffic"] = request.json()["targets"]
        return json_reply(self._agent(name))

    def rollback(self, request: Received, name: str) -> Reply:
        revision = request.json().get("revision", f"{name}-00001")
        self._agent(name)["traffic"] = [{"revision": revision, "percent": 100, "tag": None}]
        return json_reply(self._agent(name))

    def upload(self, request: Received) -> Reply:
        with tarfile.open(fileobj=io.BytesIO(request.body), mode="r:gz") as archive:
            member = archive.extractfile("agent.yaml")
            assert member is not None
            name = re.search(rb"^name: (\S+)", member.read(), re.MULTILINE)
        assert name is not None
        with tempfile.TemporaryDirectory() as folder:
            digest = bundle.unpack(request.body, folder)
        self.versions[digest] = {"agent": name[1].decode(), "digest": digest, "version": "0.1.0", "framework": "plain"}
        return json_reply(self.versions[digest], 201)

    def deploy(self, request: Received) -> Reply:
        digest = request.json()["digest"]
        if digest not in self.versions:
            raise NotFound("Nobody has uploaded it", code="version_unknown", hint="Upload it.")
        unchanged = digest in self.serving
        return json_reply(self._deployment(digest, unchanged=unchanged), 200 if unchanged else 202)

    def deployment_events(self, request: Received, digest: str) -> Reply:
        self.serving.add(digest)
        self.agents.setdefault(self.versions[digest]["agent"], create_agent(self.versions[digest]["agent"]))
        return event_stream(
            ("log", {"line": "Resolved 0 packages"}),
            ("state", {"state": "building"}),
            ("state", {"state": "starting"}),
            ("state", {"state": "ready"}),
        )

    def get_deployment(self, request: Received, digest: str) -> Reply:
        return json_reply(self._deployment(digest))

    def list_deployments(self, request: Received) -> Reply:
        agent = self.agents[request.query["agent"]]
        members = {"agent": agent["name"], "state": "ready", "problem": None, **agent.get("deployment", {})}
        return json_reply({"items": [members], "next": None})

    def _deployment(self, digest: str, *, unchanged: bool = False) -> dict[str, Any]:
        version = self.versions[digest]
        return {
            "id": digest,
            "agent": version["agent"],
            "digest": digest,
            "version": version["version"],
            "revision": f"{version['agent']}-00001",
            "state": "ready" if digest in self.serving else "building",
            "problem": None,
            "unchanged": unchanged,
            "created_at": MOMENT,
            "url": f"{self.url}/agents/{version['agent']}",
        }

    def get_run(self, request: Received, run: str) -> Reply:
        return json_reply(self._run(run))

    def run_steps(self, request: Received, run: str) -> Reply:
        return json_reply({"items": self.steps, "next": None})

    def cancel_run(self, request: Received, run: str) -> Reply:
        self._run(run)["state"] = "cancelled"
        return json_reply(self._run(run))

    def retry_run(self, request: Received, run: str) -> Reply:
        return json_reply({**self._run(run), "state": "waiting"}, 202)

    def put_secret(self, request: Received, name: str) -> Reply:
        given = request.json()
        self.secrets[name] = given.get("value") or given["reference"]
        return Reply(status=204)

    def secret_versions(self, request: Received, name: str) -> Reply:
        version = {"version": 1, "reference": None, "in_use": True, "created_at": MOMENT}
        return json_reply({"items": [version], "next": None})

    def secret_rollback(self, request: Received, name: str) -> Reply:
        moments = {"created_at": MOMENT, "updated_at": LATER}
        return json_reply({"name": name, **request.json(), "reference": None, **moments})

    def encryption(self, request: Received, rotation: str) -> Reply:
        master = "new" if rotation.startswith("/master") else "old"
        former = 1 if rotation == "/rotation" else 0
        versions = {"version": 1 + former, "former_versions": former, "unreadable": 0}
        return json_reply({"source": "file", "master": master, **versions, "master_since": MOMENT, "since": MOMENT})

    def delete_secret(self, request: Received, name: str) -> Reply:
        if name not in self.secrets:
            raise NotFound(f"There is no secret {name}", code="secret_unknown", hint="`orchestrator secrets ls`")
        del self.secrets[name]
        return Reply(status=204)

    def session(self, request: Received, agent: str, session: str) -> Reply:
        if session not in self.sessions:
            raise NotFound(f"There is no session {session}", code="session_unknown")
        if request.method == "DELETE":
            del self.sessions[session]
            return Reply(status=204)
        return json_reply(self.sessions[session])

    def backup(self, request: Received) -> Reply:
        return json_reply({"path": "/home/backups/1.db"}, 201)

    def health(self, request: Received) -> Reply:
        return json_reply({"status": "ok"})

    def echo(self, request: Received, name: str, path: str) -> Reply:
        """An agent that answers with its input and its content type."""
        self._agent(name)
        run = {"orchestrator-run": f"/api/v1/runs/{RUN}", "orchestrator-revision": f"{name}-00001"}
        if request.headers.get("prefer") == "respond-async":
            return json_reply({"id": RUN, "state": "pending"}, 202, run)
        content_type = request.headers.get("content-type", "text/plain")
        return Reply(request.body, 200, content_type, run)

    def _agent(self, name: str) -> dict[str, Any]:
        if name not in self.agents:
            raise NotFound(f"There is no agent {name}", code="agent_unknown", hint="`orchestrator ls` lists them.")
        return self.agents[name]

    def _run(self, run: str) -> dict[str, Any]:
        if run not in self.runs:
            raise NotFound(f"There is no run {run}", code="run_unknown", hint="`orchestrator runs` lists them.")
        return self.runs[run]


API = "/api/v1"
ROUTES = (
    (rf"GET {API}/(agents|runs|secrets|sessions)", "list_all"),
    (rf"GET {API}/agents/([^/]+)", "get_agent"),
    (rf"DELETE {API}/agents/([^/]+)", "delete_agent"),
    (rf"GET {API}/agents/([^/]+)/revisions", "revisions"),
    (rf"PUT {API}/agents/([^/]+)/traffic", "put_traffic"),
    (rf"POST {API}/agents/([^/]+)/rollback", "rollback"),
    (rf"(?:GET|DELETE) {API}/agents/([^/]+)/sessions/([^/]+)", "session"),
    (rf"POST {API}/versions", "upload"),
    (rf"POST {API}/deployments", "deploy"),
    (rf"GET {API}/deployments", "list_deployments"),
    (rf"GET {API}/deployments/([^/]+)", "get_deployment"),
    (rf"GET {API}/deployments/([^/]+)/events", "deployment_events"),
    (rf"GET {API}/runs/([^/]+)", "get_run"),
    (rf"GET {API}/runs/([^/]+)/steps", "run_steps"),
    (rf"POST {API}/runs/([^/]+)/cancel", "cancel_run"),
    (rf"POST {API}/runs/([^/]+)/retry", "retry_run"),
    (rf"PUT {API}/secrets/([^/]+)", "put_secret"),
    (rf"DELETE {API}/secrets/([^/]+)(?:/versions/\d+)?", "delete_secret"),
    (rf"GET {API}/secrets/([^/]+)/versions", "secret_versions"),
    (rf"POST {API}/secrets/([^/]+)/rollback", "secret_rollback"),
    (rf"(?:GET|POST) {API}/encryption(|/rotation|/master/rotation)", "encryption"),
    (rf"POST {API}/backups", "backup"),
    (rf"GET {API}/health", "health"),
    (r"[A-Z]+ /agents/([^/]+)(|/.*)", "echo"),
)


def problem_reply(problem: Problem) -> Reply:
    return Reply(json.dumps(problem.document()).encode(), problem.status, PROBLEM_CONTENT_TYPE)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    platform: FakePlatform

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        reply = self.platform.handle(Received(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body))
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body) + reply.cut))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@contextlib.contextmanager
def api_server(*, tls: ssl.SSLContext | None = None) -> Iterator[FakePlatform]:
    """Serve until the end of the block."""
    platform = FakePlatform()
    handler = type("Handler", (_Handler,), {"platform": platform})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:  # a handshake that fails is its own thread's failure
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        platform.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        try:
            yield platform
        finally:
            server.shutdown()
            thread.join()
