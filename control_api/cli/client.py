"""HTTP to the platform, on the standard library alone: what the commands need, in few lines and with a fast start.

Knows problem documents, cursor pages and server-sent events; knows no endpoint.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from control_api.cli.events import EVENT_STREAM, ServerEvent, read_events
from orchestrator_runtime.contract.errors import BadInput, Problem, Unavailable, from_document
from orchestrator_runtime.contract.headers import RUN_ADDRESS

API = "/api/v1"
TIMEOUT = 60.0  # seconds without a byte; live streams send a comment every 15
READ_BYTES = 65536
MOST = 1000  # items of a list that is asked for as a whole
RECONNECTS = 20
RECONNECT_DELAY = 0.5
BROKEN = (http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Client:
    """The platform at `url`, as whoever `token` belongs to; without one, as nobody. Each call is its own connection.

    It may take `timeout` seconds to connect, and be silent for `silence` seconds; None: for as long as it takes. Behind
    https it is always verified, by the authorities that the system trusts or those in the file `ca`.
    """

    url: str
    token: str
    timeout: float = TIMEOUT
    silence: float | None = TIMEOUT
    ca: str | None = None
    pause: Callable[[float], None] = field(default=time.sleep, compare=False)

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, value: Any = None) -> Any:
        return self.call("POST", path, value=value)

    def put(self, path: str, value: Any) -> Any:
        return self.call("PUT", path, value=value)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def call(self, method: str, path: str, *, value: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """One call of the API; `path` is below /api/v1. Returns the answer's JSON. Raises `Problem`."""
        body = None if value is None else json.dumps(value).encode()
        headers = {} if value is None else {"content-type": "application/json"}
        return checked(self.send(method, API + target(path, query), body=body, headers=headers)).json()

    def send(
        self, method: str, path: str, *, body: bytes | BinaryIO | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request to any path of the gateway. Raises `Unavailable` if nobody answers; any status is an answer."""
        with self.open(method, path, body=body, headers=headers) as response:
            return _answer(response)

    @contextmanager
    def open(
        self, method: str, path: str, *, body: bytes | BinaryIO | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The response while its body is still coming."""
        parts = urlsplit(self.url)
        connection = connection_to(self.url, timeout=self.timeout, ca=self.ca)
        credential = {"authorization": f"Bearer {self.token}"} if self.token else {}
        sent = {**credential, "accept": "application/json", **(headers or {})}
        try:
            try:
                with verified(self.url):
                    connection.connect()
            except OSError as error:
                raise unreachable(self.url, error) from error
            connection.sock.settimeout(self.silence)
            try:
                connection.request(method, parts.path.rstrip("/") + path, body=body, headers=sent)
                yield connection.getresponse()
            except BROKEN as error:
                raise cut_off(error) from error
        finally:
            connection.close()

    def follow(self, path: str, **query: Any) -> Iterator[ServerEvent]:
        """The events of a live stream until the server ends it; a broken connection is taken up where it broke."""
        last: str | None = None
        failures = 0
        while True:
            headers = {"accept": EVENT_STREAM, **({"last-event-id": last} if last else {})}
            try:
                with self.open("GET", API + target(path, query), headers=headers) as response:
                    if response.status >= 400:
                        checked(_answer(response))
                    for event in _events(response):
                        last, failures = event.id or last, 0
                        yield event
            except Unavailable:
                failures += 1
                if failures > RECONNECTS:
                    raise
                self.pause(RECONNECT_DELAY)
            else:
                return

    def pages(self, path: str, *, limit: int = MOST, **query: Any) -> tuple[list[Any], str | None]:
        """Up to `limit` items of a list, and the cursor of what follows them."""
        items: list[Any] = []
        cursor: str | None = query.pop("cursor", None)
        while True:
            page = self.get(path, **query, limit=min(limit - len(items), 200), cursor=cursor)
            items += page["items"]
            cursor = page.get("next")
            if cursor is None or len(items) >= limit:
                return items, cursor


def connection_to(url: str, *, timeout: float, ca: str | None) -> http.client.HTTPConnection:
    """A connection that is still to be made. Raises `BadInput` (`ca_invalid`)."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # not there, or no certificate
        raise BadInput(
            f"ORCHESTRATOR_CA: no certificates can be read from {ca}: {error}",
            code="ca_invalid",
            hint="Name a PEM file with the certificate of the authority that signed the platform's.",
        ) from error
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)


@contextmanager
def verified(url: str) -> Iterator[None]:
    """Around a connection's start: raises `Unavailable` (`certificate_untrusted`) if the other end is not `url`."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"Whoever answers at {url} could not be verified: {error.verify_message}",
            code="certificate_untrusted",
            hint="Name the authority's certificate with ORCHESTRATOR_CA, and the platform as its certificate does with "
            "ORCHESTRATOR_URL.",
        ) from error


def target(path: str, query: Mapping[str, Any] | None = None) -> str:
    """Path and query as they go on the wire; members that are None are left out."""
    given = {key: str(value).lower() if isinstance(value, bool) else value for key, value in (query or {}).items()}
    text = urlencode({key: value for key, value in given.items() if value is not None})
    return f"{path}?{text}" if text else path


def segment(name: str) -> str:
    """A name as one segment of a path, whatever was typed."""
    return quote(name, safe="")


def checked(answer: Answer) -> Answer:
    """The answer, unless it is an error: then `Problem` is raised."""
    if answer.status < 400:
        return answer
    raise problem_of(answer)


def problem_of(answer: Answer) -> Problem:
    """What an error answer says, also one that is no problem document (an agent's own, a proxy's).

    Of a run its member `run` is the id.
    """
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict) or "detail" not in document:
        detail = answer.body[:500].decode(errors="replace").strip() or "no further details"
        document = {"detail": f"HTTP {answer.status}: {detail}", "code": f"http_{answer.status}"}
    run = answer.headers.get(RUN_ADDRESS)
    return from_document({"status": answer.status, **document, **({"run": run.rpartition("/")[2]} if run else {})})


def unreachable(url: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"Nothing answers at {url}: {error}", code="server_unreachable", hint="Start it with `orchestrator up`."
    )


def cut_off(error: Exception) -> Unavailable:
    return Unavailable(
        f"The connection broke before the answer was complete: {error}",
        code="connection_broken",
        hint="`orchestrator status` shows whether it runs; an accepted run goes on: `orchestrator runs`.",
    )


def _events(response: http.client.HTTPResponse) -> Iterator[ServerEvent]:
    """Server-sent events, or JSON lines as events."""
    if response.headers.get_content_type() == EVENT_STREAM:
        return read_events(lines_of(response))
    return (ServerEvent("line", line.decode(errors="replace")) for line in lines_of(response))


def lines_of(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines of a body as they come. Raises `IncompleteRead` if it breaks off, which `readline` would not."""
    rest = b""
    while data := response.read1(READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if response.length:
        raise http.client.IncompleteRead(rest, response.length)
    if rest:
        yield rest


def _answer(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())
