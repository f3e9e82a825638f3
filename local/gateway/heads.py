"""Writes heads: of requests to an upstream, of answers to a caller, and whole answers of our own. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from local.gateway.requests import Request
from orchestrator_runtime.contract import headers
from orchestrator_runtime.contract.errors import PROBLEM_CONTENT_TYPE, Problem

Fields = list[tuple[bytes, bytes]]

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}
OWN_LINES = (
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
)
"""Of answers that we make ourselves: nothing in them is a page."""
SECURE_LINE = ("strict-transport-security", "max-age=31536000")
"""Of our own and the API's answers by TLS: for a year, browsers come by TLS only."""
GUEST_LINES = (
    ("content-security-policy", "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"),
    ("x-content-type-options", "nosniff"),
)
"""Of what agents answer below /agents/, where the API is the same origin: a page of theirs is given one of its own, so
that its scripts see nothing of the API's documentation, and cannot call the API as whoever looks at it."""


def lines_of(fields: Iterable[tuple[str, str]]) -> bytes:
    """Fields that we chose ourselves as lines of a head."""
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode()


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKS_END = b"0\r\n\r\n"

HOP_BY_HOP = frozenset(name.encode() for name in headers.HOP_BY_HOP)
NOT_FORWARDED = HOP_BY_HOP | {name.encode() for name in headers.WRITTEN_BY_US}
INTERNAL_PREFIX = headers.INTERNAL_PREFIX.encode()
PUBLIC_INTERNAL = frozenset({headers.SESSION.encode()})
NOT_ANSWERED = HOP_BY_HOP | {headers.CORRELATION_ID.encode(), headers.REVISION.encode(), headers.CALL_TOKEN.encode()}

NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # of a header field: a token (RFC 9110)

CREDENTIAL = frozenset({b"authorization"})
COOKIES = frozenset({b"cookie", b"set-cookie"})
"""Of the API's origin: no agent at that origin sees them, or sets one."""
NOTHING: frozenset[bytes] = frozenset()


def nominated(fields: Mapping[bytes, bytes]) -> frozenset[bytes]:
    """Names that the Connection field makes hop-by-hop."""
    connection = fields.get(b"connection")
    if connection is None or connection in {b"keep-alive", b"close", b"Keep-Alive", b"Upgrade", b"upgrade"}:
        return NOTHING
    return frozenset(name.strip().lower() for name in connection.split(b","))


def request_head(
    request: Request, target: bytes, added: bytes, *, withheld: frozenset[bytes] = NOTHING, upgrade: bool = False
) -> bytes:
    """The head that an upstream gets. `added`: whole lines that we vouch for. `withheld`: names that stay here."""
    dropped = withheld | nominated(request.first)
    parts = [request.method, b" ", target, b" HTTP/1.1\r\nhost: ", request.first.get(b"host") or b"localhost", b"\r\n"]
    for name, value in request.fields:
        # A name with _ is the same as one with - to programs that map names to variables.
        plain = name.replace(b"_", b"-") if b"_" in name else name
        if plain in NOT_FORWARDED or plain in dropped:
            continue
        if plain.startswith(INTERNAL_PREFIX) and name not in PUBLIC_INTERNAL:
            continue
        parts += (name, b": ", value, b"\r\n")
    parts.append(added)
    if request.chunked:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif request.length is not None:
        parts.append(b"content-length: %d\r\n" % request.length)
    if upgrade and request.upgrade is not None:
        parts += (b"connection: upgrade\r\nupgrade: ", request.upgrade, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


@lru_cache(maxsize=1024)
def forwarded(peer: str, host: bytes, *, secure: bool) -> bytes:
    """Who called us and for which host. What the caller claimed about that is not passed on."""
    address = f'"[{peer}]"' if ":" in peer else peer
    proto = b"https" if secure else b"http"
    return b'x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nforwarded: for=%b;host="%b";proto=%b\r\n' % (
        peer.encode(),
        proto,
        address.encode(),
        host,  # no quotation mark or backslash is let in (`requests.HOST`)
        proto,
    )


def answer_head(status: int, fields: Fields, added: bytes, *, withheld: frozenset[bytes] = NOTHING) -> bytes:
    """The head of an upstream's answer for the caller. `added`: framing, connection and our own lines.

    `withheld`: names that stay here.
    """
    parts = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    connection = [value for name, value in fields if name == b"connection"]
    dropped = withheld | nominated({b"connection": b",".join(connection)}) if connection else withheld
    for name, value in fields:
        if name not in NOT_ANSWERED and name not in dropped:
            parts += (name, b": ", value, b"\r\n")
    parts += (added, b"\r\n")
    return b"".join(parts)


def may_be_answered(name: str, *, withheld: frozenset[bytes]) -> bool:
    """Whether a header field that an agent gave its recorded answer may stand in an answer of our own."""
    kept = NOT_ANSWERED | withheld | {b"content-type"}
    return NAME.fullmatch(name) is not None and name.lower().encode() not in kept


def upgrade_head(fields: Fields, added: bytes, *, withheld: frozenset[bytes] = NOTHING) -> bytes:
    """The head of an answer that accepts an upgrade. `withheld`: names that stay here."""
    parts = [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"]
    for name, value in fields:
        if name == b"upgrade" or name not in NOT_ANSWERED | withheld:
            parts += (name, b": ", value, b"\r\n")
    parts += (added, b"\r\n")
    return b"".join(parts)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(
    status: int,
    body: bytes,
    *,
    content_type: str,
    fields: Iterable[tuple[str, str]] = (),
    close: bool = False,
    phrase: str = "",
) -> bytes:
    """A whole answer of our own; `phrase` stands in its first line in place of the usual one."""
    lines = [f"content-type: {content_type}", f"content-length: {len(body)}", f"date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {one_line(value)}" for name, value in fields]
    if close:
        lines.append("connection: close")
    head = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    if phrase:
        head = b"HTTP/1.1 %d %b\r\n" % (status, one_line(phrase).encode("ascii", "replace"))
    return b"".join((head, "\r\n".join(lines).encode("latin-1", "replace"), b"\r\n\r\n", body))


def one_line(value: str) -> str:
    """A value that cannot end its own line."""
    return value.replace("\r", " ").replace("\n", " ").replace("\0", " ")


def problem_answer(
    problem: Problem, *, correlation: str, close: bool = False, phrase: str = "", secure: bool = False
) -> bytes:
    """A problem document (RFC 9457). What can be tried again says when. `secure`: by TLS."""
    fields = [(headers.CORRELATION_ID, correlation), *OWN_LINES]
    if secure:
        fields.append(SECURE_LINE)
    if problem.status in {429, 503}:
        fields.append(("retry-after", str(problem.extra.get("retry_after", 1))))
    if problem.status == 401:
        fields.append(("www-authenticate", 'Bearer realm="orchestrator"'))
    body = json.dumps(problem.document(), ensure_ascii=False).encode()
    return answer(problem.status, body, content_type=PROBLEM_CONTENT_TYPE, fields=fields, close=close, phrase=phrase)
