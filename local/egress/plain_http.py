"""Heads of plain HTTP requests through the proxy: read strictly, as the gateway does, and written anew."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from local.gateway.heads import NOTHING, nominated
from local.gateway.requests import Request, RequestReader
from local.gateway.settings import Limits
from orchestrator_runtime.contract.errors import BadInput

NOT_SENT = frozenset(
    b"host connection keep-alive proxy-connection proxy-authorization te trailer transfer-encoding upgrade "
    b"content-length expect".split()
)
LIMITS = Limits()


class _Head:
    """Takes the one request that a head holds."""

    request: Request | None = None

    def request_started(self, request: Request) -> None:
        self.request = request

    def request_body(self, data: bytes) -> None:
        """A head has none."""

    def request_ended(self) -> None:
        """Its body comes later."""


def read_head(head: bytes) -> tuple[SplitResult, Request]:
    """The URL of the request line and the request. Raises `Problem` for what is not well-formed.

    The gateway's reader takes an absolute target only if it names the Host. Clients of a proxy may send another Host
    or none, and RFC 9112 (3.2.2) has the target win: so the reader is shown the authority as the Host.
    """
    line, _, rest = head.partition(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3:
        raise BadInput("The request line is malformed", code="malformed_request")
    try:
        url = urlsplit(words[1].decode("ascii"))
    except ValueError as error:  # also of the decoding
        raise BadInput("The request target is no URL", code="malformed_request") from error
    fields = [field for field in rest.split(b"\r\n") if not field.lower().startswith(b"host:")]
    receiver = _Head()
    reader = RequestReader(receiver, limits=LIMITS)
    reader.feed(line + b"\r\nhost: " + url.netloc.encode() + b"\r\n" + b"\r\n".join(fields))
    if reader.problem is not None:
        raise reader.problem
    if receiver.request is None:
        raise BadInput("The request is not complete", code="malformed_request")
    return url, receiver.request


def upstream_head(request: Request, url: SplitResult) -> bytes:
    """The same request in origin form, for one connection of its own."""
    dropped = NOT_SENT | (nominated(request.first) or NOTHING)
    parts = [request.method, b" ", request.target, b" HTTP/1.1\r\nhost: ", url.netloc.encode(), b"\r\n"]
    for name, value in request.fields:
        if name not in dropped:
            parts += (name, b": ", value, b"\r\n")
    if request.chunked:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif request.length is not None:
        parts.append(b"content-length: %d\r\n" % request.length)
    parts.append(b"connection: close\r\n\r\n")
    return b"".join(parts)
