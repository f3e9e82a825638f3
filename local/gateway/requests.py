"""Reads HTTP/1 requests from a caller's bytes and refuses every shape that two readers could understand differently.

llhttp (httptools) is strict about fields, lengths and chunks; what it lets through and we do not is refused here. What
is forwarded is written anew from a `Request` (`heads.py`): no byte of a head is ever copied through.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

import httptools

from local.gateway.settings import Limits
from orchestrator_runtime.contract.errors import BadInput, Problem

METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK REPORT MERGE LINK "
    b"UNLINK QUERY".split()
)
LABEL = rb"[A-Za-z0-9_~!$&'()*+;=%-]+"
HOST = re.compile(rb"(?:%b(?:\.%b)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?" % (LABEL, LABEL))
HOST_BYTES = 300  # a name has 253 at most
ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})?")
CHUNKS_OVERHEAD = 16  # bytes of a chunked body that carry nothing, for each byte that does: chunks of one byte have six
VERSIONS = {"1.0": False, "1.1": True}  # -> whether chunks and 100-continue exist


class HeadTooLarge(Problem):
    status = 431
    title = "Header fields too large"


class MethodNotAllowed(Problem):
    status = 405
    title = "Method not allowed"


class VersionNotSupported(Problem):
    status = 505
    title = "HTTP version not supported"


class Request:
    """The head of one request. Names of fields are lower case; `target` is in origin form (`/path?query`)."""

    __slots__ = (
        "chunked",
        "expects_continue",
        "fields",
        "first",
        "keep_alive",
        "length",
        "method",
        "modern",
        "path",
        "query",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], *, modern: bool) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.fields = fields
        self.first = dict(fields)  # one value per name: enough for names that may not be repeated
        self.modern = modern  # HTTP/1.1
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = False
        self.upgrade: bytes | None = None
        self.expects_continue = False


class Receiver(Protocol):
    """What happens to what a `RequestReader` reads, in order."""

    def request_started(self, request: Request) -> None: ...

    def request_body(self, data: bytes) -> None: ...

    def request_ended(self) -> None: ...


def _refuse(detail: str) -> BadInput:
    return BadInput(detail, code="malformed_request", hint="Send one well-formed HTTP/1.1 request.")


class RequestReader:
    """Feeds a `Receiver`. After `problem` is set nothing more is read: the connection has to be closed."""

    def __init__(self, receiver: Receiver, *, limits: Limits) -> None:
        self.problem: Problem | None = None
        self.in_head = False  # between the first byte of a head and its end
        self._receiver = receiver
        self._limits = limits
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._silent = 0  # bytes that came since something was understood
        self._heard = False
        self._upgrade = False
        self._chunked = False
        self._wire = 0  # bytes of a chunked body as they came, up to the last `feed`, and what was in them
        self._content = 0
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> bytes | None:
        """Read `data`. Returns what follows a request for an upgrade: no HTTP, unless the upgrade is refused."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                data = data[stop.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
                if self.problem is not None:
                    return None
                if self._upgrade:
                    return data
                if not data:
                    return None
                continue
            except httptools.HttpParserCallbackError as error:
                if self.problem is None:
                    raise error.__context__ or error from None
            except httptools.HttpParserError as error:
                self.problem = self.problem or _refuse(f"The request is not valid HTTP/1.1: {error}")
            self._count(len(data))
            if self._chunked:
                self._wire += len(data)
            return None

    def _count(self, size: int) -> None:
        """Refuse a head or trailer without an end: the parser keeps all of a field until it is whole."""
        self._silent = 0 if self._heard else self._silent + size
        self._heard = False
        if self._silent > self._limits.head_bytes and self.problem is None:
            self.problem = HeadTooLarge(
                f"The header fields have more than {self._limits.head_bytes} bytes", code="head_too_large"
            )

    def _count_chunk(self, size: int) -> None:
        """Refuse a body that is little but sizes and extensions of chunks: it costs us more than its sender."""
        self._content += size
        if self._wire > self._limits.head_bytes + CHUNKS_OVERHEAD * self._content and self.problem is None:
            self.problem = _refuse("The chunks of the body hold next to nothing")
            raise self.problem

    # httptools

    def on_message_begin(self) -> None:
        self.in_head = True
        self._chunked = False
        self._target = b""
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # else a trailer: dropped
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        self._heard = True
        if self.problem is not None:
            return
        try:
            request = self._request()
        except Problem as problem:
            self.problem = problem
            raise
        self._upgrade = request.upgrade is not None
        if request.chunked:
            self._chunked, self._wire, self._content = True, 0, 0
        self._receiver.request_started(request)

    def on_body(self, data: bytes) -> None:
        self._heard = True
        if self._chunked:
            self._count_chunk(len(data))
        if self.problem is None:
            self._receiver.request_body(data)

    def on_message_complete(self) -> None:
        self._heard = True
        if self.problem is None:
            self._receiver.request_ended()

    # what llhttp leaves to us

    def _request(self) -> Request:
        parser, fields = self._parser, self._fields
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in fields)
        if size > self._limits.head_bytes or len(fields) > self._limits.header_fields:
            raise HeadTooLarge("There are too many or too large header fields", code="head_too_large")
        version = parser.get_http_version()
        if version not in VERSIONS:
            raise VersionNotSupported(f"HTTP/{version} is not spoken here", code="http_version")
        method = parser.get_method()
        if method not in METHODS:
            raise MethodNotAllowed(f"{method.decode()} is not served here", code="method_not_allowed")
        request = Request(method, b"", fields, modern=VERSIONS[version])
        if len(request.first) != len(fields):
            _refuse_repeated(fields)
        _set_target(request, self._target)
        _set_framing(request)
        request.keep_alive = parser.should_keep_alive()
        if parser.should_upgrade():
            _set_upgrade(request)
        return request


ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect", b"content-type"})


def _refuse_repeated(fields: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in fields if name in ONCE]
    if len(names) != len(set(names)):
        raise _refuse("A header field that may come only once is repeated")


def _set_target(request: Request, target: bytes) -> None:
    """Origin form is kept; absolute form must name the same authority as Host (RFC 9112, 3.2.2)."""
    host = request.first.get(b"host")
    if host is None and request.modern:
        raise _refuse("The Host header field is missing")
    if host is not None and (len(host) > HOST_BYTES or not _is_host(host)):
        raise _refuse("The Host header field is malformed")
    if target == b"*" and request.method == b"OPTIONS":
        target = b"/"
    if not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        if scheme.lower() not in {b"http", b"https"} or host is None or authority.lower() != host.lower():
            raise _refuse("The request target is neither a path nor names the host of the Host header field")
        target = slash + path or b"/"
    if b"#" in target:
        raise _refuse("A request target has no fragment")
    request.target = target
    request.path, _, request.query = target.partition(b"?")
    if b"%" in request.path or b"/." in request.path:
        _refuse_path(request.path)


@lru_cache(maxsize=256)
def _is_host(host: bytes) -> bool:
    """Nearly every request names a host that was just named."""
    return HOST.fullmatch(host) is not None


def _refuse_path(path: bytes) -> None:
    """What does not decode, and what would lead above the root for whoever takes its dots for steps."""
    if None in {escape[1] for escape in ESCAPED.finditer(path)} or b"%00" in path:
        raise _refuse("The path has a % that begins no escape, or one for NUL")
    depth = 0
    for segment in ESCAPED.sub(lambda escape: bytes.fromhex(escape[1].decode()), path).split(b"/"):
        if segment == b"..":
            depth -= 1
        elif segment not in {b"", b"."}:
            depth += 1
        if depth < 0:
            raise _refuse("The path leads above the root")


def _set_framing(request: Request) -> None:
    first = request.first
    coding = first.get(b"transfer-encoding")
    if coding is not None:
        if not request.modern or coding.strip().lower() != b"chunked" or b"content-length" in first:
            raise _refuse("The only transfer coding is chunked, in HTTP/1.1, without a Content-Length")
        request.chunked = True
    length = first.get(b"content-length")
    if length is not None:
        length = length.strip(b" \t")
        if not length.isdigit() or len(length) > 18:
            raise _refuse("Content-Length is no number")
        request.length = int(length)
    expect = first.get(b"expect")
    if expect is not None and request.modern and expect.lower() == b"100-continue":
        request.expects_continue = request.chunked or bool(request.length)


def _set_upgrade(request: Request) -> None:
    """h2c is ignored, as RFC 9110 allows: who speaks it could send requests past us."""
    if request.chunked or request.length:
        raise _refuse("A request that asks for an upgrade has no body here")
    protocol = request.first.get(b"upgrade", b"").strip()
    ignored = not request.modern or not protocol or b"," in protocol
    if not ignored and not protocol.lower().startswith((b"h2", b"http", b"tls")):
        request.upgrade = protocol
