"""Requests that two readers could understand differently, and what the gateway makes of each.

Each case is what one caller sends; `answers` are the statuses that it gets, in order, before the connection ends. An
answer of 200 is an agent's: so many requests, and no more, reach an instance. HIDDEN is the request that an attacker
hides: one that an instance sees was smuggled.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKEN = b"authorization: Bearer owner-token\r\n"
START = b"POST /agents/echo HTTP/1.1\r\nhost: x\r\n" + TOKEN
GET = b"GET /agents/echo HTTP/1.1\r\nhost: x\r\n" + TOKEN
HIDDEN = b"GET /agents/echo/hidden HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n"
SIZE = str(len(HIDDEN)).encode()
CHUNKED = b"transfer-encoding: chunked\r\n"
END = b"connection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    data: bytes
    answers: tuple[int, ...] = (400,)


def post(fields: bytes, body: bytes = b"0\r\n\r\n" + HIDDEN) -> bytes:
    return START + fields + b"\r\n" + body


def coding(field: bytes) -> bytes:
    """A field that is, or looks like, Transfer-Encoding, beside an honest length."""
    return post(field + b"\r\ncontent-length: 4\r\n", b"0\r\n\r\n" + HIDDEN)


def chunks(body: bytes) -> bytes:
    return post(CHUNKED, body + HIDDEN)


def get(target: bytes, host: bytes = b"host: x\r\n", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + host + TOKEN + END


LENGTHS = [
    Case("length and chunks", post(b"content-length: 4\r\n" + CHUNKED)),
    Case("chunks and length", post(CHUNKED + b"content-length: 4\r\n")),
    Case("two lengths that differ", post(b"content-length: 5\r\ncontent-length: 0\r\n")),
    Case("two lengths that agree", post(b"content-length: 5\r\ncontent-length: 5\r\n")),
    Case("two lengths in one line", post(b"content-length: 5, 5\r\n")),
    Case("two different lengths in one line", post(b"content-length: 0, 5\r\n")),
    Case("a length with a plus", post(b"content-length: +5\r\n")),
    Case("a length with a minus", post(b"content-length: -5\r\n")),
    Case("a length in hexadecimal", post(b"content-length: 0x5\r\n")),
    Case("a length with an underscore", post(b"content-length: 1_0\r\n")),
    Case("a length with a fraction", post(b"content-length: 5.0\r\n")),
    Case("a length with a space inside", post(b"content-length: 1 0\r\n")),
    Case("a length without digits", post(b"content-length: \r\n")),
    Case("a length beyond every number", post(b"content-length: 18446744073709551621\r\n")),
    Case("a length in other digits", post("content-length: ٥\r\n".encode())),
    Case("a length of a quoted number", post(b'content-length: "5"\r\n')),
    Case("a length with a space before the colon", post(b"content-length : 5\r\n")),
    Case("a length with a NUL", post(b"content-length: 5\0\r\n")),
    Case("a length with a bare CR", post(b"content-length: 5\rx: y\r\n")),
    Case("a length in a folded line", post(b"content-length:\r\n 5\r\n")),
]

CODINGS = [
    Case("a coding that is unknown", coding(b"transfer-encoding: xchunked")),
    Case("a coding with a space before the colon", coding(b"transfer-encoding : chunked")),
    Case("a coding with a tab before the colon", coding(b"transfer-encoding\t: chunked")),
    Case("a coding after a vertical tab", coding(b"transfer-encoding: \x0bchunked")),
    Case("a coding after a NUL", coding(b"transfer-encoding: \0chunked")),
    Case("a coding in quotes", coding(b'transfer-encoding: "chunked"')),
    Case("a coding with a parameter", coding(b"transfer-encoding: chunked;q=1")),
    Case("a coding and identity", coding(b"transfer-encoding: chunked, identity")),
    Case("identity and a coding", coding(b"transfer-encoding: identity, chunked")),
    Case("identity alone", coding(b"transfer-encoding: identity")),
    Case("chunked twice", coding(b"transfer-encoding: chunked, chunked")),
    Case("a compressed coding", coding(b"transfer-encoding: gzip, chunked")),
    Case("an empty coding", coding(b"transfer-encoding: ")),
    Case("a coding after a comma", coding(b"transfer-encoding: , chunked")),
    Case("two fields of coding", coding(b"transfer-encoding: chunked\r\ntransfer-encoding: x")),
    Case("two fields of coding, the real one last", coding(b"transfer-encoding: x\r\ntransfer-encoding: chunked")),
    Case("a coding in a folded line", coding(b"transfer-encoding:\r\n chunked")),
    Case("a coding behind a bare LF", coding(b"x: y\ntransfer-encoding: chunked")),
    Case("a coding behind a bare CR", coding(b"x: y\rtransfer-encoding: chunked")),
    Case("a coding behind a folded line", coding(b"x: y\r\n transfer-encoding: chunked")),
    Case("a coding with a leading space", coding(b" transfer-encoding: chunked")),
    Case("a coding in capitals beside a length", coding(b"TRANSFER-ENCODING: CHUNKED")),
    Case("a coding with bytes of Latin-1", coding(b"transfer-encoding: chunked\xa0")),
    Case("chunks in HTTP/1.0", post(CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
    Case("two codings, without a length", post(b"transfer-encoding: chunked, chunked\r\n")),
    Case("an unknown coding, without a length", post(b"transfer-encoding: cow\r\n")),
    Case("a coding that is not the last one", post(b"transfer-encoding: chunked, gzip\r\n")),
]

CHUNKS = [
    Case("a chunk that is longer than it says", chunks(b"1\r\nab\r\n0\r\n\r\n")),
    Case("a chunk size with a plus", chunks(b"+1\r\na\r\n0\r\n\r\n")),
    Case("a chunk size with a minus", chunks(b"-1\r\na\r\n0\r\n\r\n")),
    Case("a chunk size with 0x", chunks(b"0x1\r\na\r\n0\r\n\r\n")),
    Case("a chunk size with a space before it", chunks(b" 1\r\na\r\n0\r\n\r\n")),
    Case("a chunk size of nothing", chunks(b"\r\na\r\n0\r\n\r\n")),
    Case("a chunk size that is no number", chunks(b"g\r\na\r\n0\r\n\r\n")),
    Case("a chunk size beyond every number", chunks(b"10000000000000001\r\na\r\n0\r\n\r\n")),
    Case("a chunk size with a NUL", chunks(b"1\0\r\na\r\n0\r\n\r\n")),
    Case("a chunk size that ends with a bare LF", chunks(b"1\na\r\n0\r\n\r\n")),
    Case("a chunk size that ends with a bare CR", chunks(b"1\ra\r\n0\r\n\r\n")),
    Case("a chunk that ends with a bare LF", chunks(b"1\r\na\n0\r\n\r\n")),
    Case("a chunk that ends with a bare CR", chunks(b"1\r\na\r0\r\n\r\n")),
    Case("a chunk that ends with nothing", chunks(b"1\r\na0\r\n\r\n")),
    Case("a chunk extension with a bare LF", chunks(b"1;a\nb\r\na\r\n0\r\n\r\n")),
    Case("a chunk extension with a bare CR", chunks(b"1;a\rb\r\na\r\n0\r\n\r\n")),
    Case("a last chunk that ends with a bare LF", chunks(b"0\n\r\n")),
    Case("a trailer with a bare LF", chunks(b"0\r\nx: y\n\r\n")),
    Case("a trailer that frames", chunks(b"0\r\ncontent-length: 9\r\n\r\n")),
    Case("a trailer without a colon", chunks(b"0\r\nxy\r\n\r\n")),
    Case("a trailer with a space before the colon", chunks(b"0\r\nx : y\r\n\r\n")),
    Case("chunks that are all extension", chunks(b"1;" + b"x" * 30_000 + b"\r\na\r\n") + chunks(b"")),
    Case(
        "more extensions than body, each of them short",
        chunks((b"1;" + b"x" * 500 + b"\r\na\r\n") * 400 + b"0\r\n\r\n"),
    ),
]

LINES = [
    Case(
        "a bare LF at the end of the request line", b"GET /agents/echo HTTP/1.1\nhost: x\r\n" + TOKEN + b"\r\n" + HIDDEN
    ),
    Case("a bare LF at the end of a field", b"GET /agents/echo HTTP/1.1\r\nhost: x\n" + TOKEN + b"\r\n" + HIDDEN),
    Case("a bare LF at the end of the head", GET + b"\n" + HIDDEN),
    Case("a bare CR at the end of a field", b"GET /agents/echo HTTP/1.1\r\nhost: x\r" + TOKEN + b"\r\n" + HIDDEN),
    Case("a bare CR inside a value", GET + b"x: a\rb\r\n\r\n" + HIDDEN),
    Case("a CR twice", GET + b"x: a\r\r\n\r\n" + HIDDEN),
    Case("a NUL in a value", GET + b"x: a\0b\r\n\r\n" + HIDDEN),
    Case("a NUL in a name", GET + b"x\0: a\r\n\r\n" + HIDDEN),
    Case("a control character in a value", GET + b"x: a\x01b\r\n\r\n" + HIDDEN),
    Case("a delete in a value", GET + b"x: a\x7fb\r\n\r\n" + HIDDEN),
    Case("a space in a name", GET + b"x y: a\r\n\r\n" + HIDDEN),
    Case("a space before the colon", GET + b"x : a\r\n\r\n" + HIDDEN),
    Case("a tab before the colon", GET + b"x\t: a\r\n\r\n" + HIDDEN),
    Case("a name of nothing", GET + b": a\r\n\r\n" + HIDDEN),
    Case("a name in Latin-1", GET + b"x\xff: a\r\n\r\n" + HIDDEN),
    Case("a name with a parenthesis", GET + b"x(: a\r\n\r\n" + HIDDEN),
    Case("a field without a colon", GET + b"xy\r\n\r\n" + HIDDEN),
    Case("a folded line", GET + b"x: a\r\n b\r\n\r\n" + HIDDEN),
    Case("a line folded by a tab", GET + b"x: a\r\n\tb\r\n\r\n" + HIDDEN),
    Case("a first field that is folded", b"GET /agents/echo HTTP/1.1\r\n host: x\r\n" + TOKEN + b"\r\n" + HIDDEN),
    Case("a request line with a tab", b"GET\t/agents/echo\tHTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN),
    Case("a space in the target", get(b"/agents/echo /x")),
    Case("a NUL in the target", get(b"/agents/echo\0")),
    Case("a control character in the target", get(b"/agents/echo\x01")),
    Case("a delete in the target", get(b"/agents/echo\x7f")),
    Case("a method in small letters", b"get /agents/echo HTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN),
    Case("no version", b"GET /agents/echo\r\nhost: x\r\n\r\n" + HIDDEN, (505,)),
    Case("a version in small letters", get(b"/agents/echo", version=b"http/1.1")),
    Case("a version that is none", get(b"/agents/echo", version=b"HTTP/1.1x")),
    Case("a version of another protocol", get(b"/agents/echo", version=b"ICE/1.0")),
    Case("version 0.9", get(b"/agents/echo", version=b"HTTP/0.9"), (505,)),
    Case("version 2.0", get(b"/agents/echo", version=b"HTTP/2.0"), (505,)),
    Case("version 1.2", get(b"/agents/echo", version=b"HTTP/1.2")),
    Case("version 1", get(b"/agents/echo", version=b"HTTP/1")),
    Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN),
    Case("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    Case("a request to CONNECT", b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n" + TOKEN + b"\r\n" + HIDDEN, (405,)),
    Case("a request to TRACE", b"TRACE /agents/echo HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n" + HIDDEN, (405,)),
    Case("a very long line", get(b"/agents/echo?" + b"x" * 70_000), (431,)),
    Case("a very long field", GET + b"x: " + b"y" * 70_000 + b"\r\n\r\n", (431,)),
    Case("very many fields", GET + b"x: y\r\n" * 2000 + b"\r\n", (431,)),
]

AUTHORITIES = [
    Case("no Host", get(b"/agents/echo", b"")),
    Case("two Hosts", get(b"/agents/echo", b"host: x\r\nhost: y\r\n")),
    Case("two Hosts that agree", get(b"/agents/echo", b"host: x\r\nhost: x\r\n")),
    Case("an empty Host", get(b"/agents/echo", b"host: \r\n")),
    Case("a Host with a space", get(b"/agents/echo", b"host: x y\r\n")),
    Case("a Host with a tab", get(b"/agents/echo", b"host: x\ty\r\n")),
    Case("a Host with a comma", get(b"/agents/echo", b"host: x,y\r\n")),
    Case("a Host with a path", get(b"/agents/echo", b"host: x/y\r\n")),
    Case("a Host with a user", get(b"/agents/echo", b"host: y@x\r\n")),
    Case("a Host with a question mark", get(b"/agents/echo", b"host: x?y\r\n")),
    Case("a Host with a fragment", get(b"/agents/echo", b"host: x#y\r\n")),
    Case("a Host with a backslash", get(b"/agents/echo", b"host: x\\y\r\n")),
    Case("a Host with a NUL", get(b"/agents/echo", b"host: x\0y\r\n")),
    Case("a Host that is longer than a name", get(b"/agents/echo", b"host: " + b"x" * 400 + b"\r\n")),
    Case("a Host with a quotation mark", get(b"/agents/echo", b'host: x"y\r\n')),
    Case("a Host with two dots", get(b"/agents/echo", b"host: x..y\r\n")),
    Case("a Host with a port that is none", get(b"/agents/echo", b"host: x:port\r\n")),
    Case("a Host with two ports", get(b"/agents/echo", b"host: x:1:2\r\n")),
    Case("a Host with an open bracket", get(b"/agents/echo", b"host: [::1\r\n")),
    Case("a Host with a space before the colon", get(b"/agents/echo", b"host : x\r\n")),
    Case("a folded Host", get(b"/agents/echo", b"host:\r\n x\r\n")),
    Case("an absolute target of another host", get(b"http://y/agents/echo")),
    Case("an absolute target of another port", get(b"http://x:81/agents/echo")),
    Case("an absolute target with a user", get(b"http://u@x/agents/echo")),
    Case("an absolute target of another scheme", get(b"ftp://x/agents/echo")),
    Case("an absolute target without a Host", get(b"http://x/agents/echo", b"")),
    Case("a target that is an authority", get(b"x:80")),
    Case("a target that is a word", get(b"agents/echo")),
    Case("a target that is a star", get(b"*")),
    Case("a target with a fragment", get(b"/agents/echo#x")),
    Case("a path that leads above the root", get(b"/../agents/echo")),
    Case("a path that leads above the root later", get(b"/agents/../../agents/echo")),
    Case("a path that leads above the root in escapes", get(b"/agents/%2e%2e/%2E%2e/agents/echo")),
    Case("a path that leads above the root by an escaped slash", get(b"/agents/..%2f..%2fagents/echo")),
    Case("a path that leads above the root past empty segments", get(b"//../agents/echo")),
    Case("a path with a NUL in escapes", get(b"/agents/echo/%00")),
    Case("a path with half an escape", get(b"/agents/echo/%4")),
    Case("a path with an escape of something else", get(b"/agents/echo/%zz")),
]

UPGRADES = [
    Case("an upgrade with a body", post(b"upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 5\r\n")),
    Case("an upgrade with chunks", post(b"upgrade: websocket\r\nconnection: upgrade\r\n" + CHUNKED)),
]

GOOD = [
    Case("one request", GET + b"\r\n" + GET + END, (200, 200)),
    Case("a length and what follows it", post(b"content-length: 5\r\n", b"hello" + GET + END), (200, 200)),
    Case("a length with leading zeros", post(b"content-length: 0005\r\n", b"hello" + GET + END), (200, 200)),
    Case("a hidden request as a body", post(b"content-length: " + SIZE + b"\r\n", HIDDEN + GET + END), (200, 200)),
    Case("a body of a GET", GET + b"content-length: " + SIZE + b"\r\n\r\n" + HIDDEN + GET + END, (200, 200)),
    Case("chunks", post(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n" + GET + END), (200, 200)),
    Case(
        "chunks in capitals",
        post(b"Transfer-Encoding: CHUNKED\r\n", b"A\r\nhellohello\r\n0\r\n\r\n" + GET + END),
        (200, 200),
    ),
    Case("a chunk size with leading zeros", post(CHUNKED, b"0005\r\nhello\r\n000\r\n\r\n" + GET + END), (200, 200)),
    Case("a chunk extension", post(CHUNKED, b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n' + GET + END), (200, 200)),
    Case("a trailer", post(CHUNKED, b"0\r\nx: y\r\n\r\n" + GET + END), (200, 200)),
    Case("two spaces in the request line", get(b" /agents/echo"), (200,)),
    Case(
        "a hidden request in a chunk",
        post(CHUNKED, b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n" + GET + END),
        (200, 200),
    ),
    Case(
        "a field that passes for a coding with an underscore",
        GET + b"transfer_encoding: chunked\r\n\r\n" + GET + END,
        (200, 200),
    ),
    Case(
        "a length that Connection names",
        post(b"connection: content-length\r\ncontent-length: 5\r\n", b"hello" + GET + END),
        (200, 200),
    ),
    Case(
        "an upgrade to h2c",
        GET
        + b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: upgrade, http2-settings\r\n\r\n"
        + GET
        + END,
        (200, 200),
    ),
    Case(
        "an expectation that is unknown",
        post(b"expect: more\r\ncontent-length: 5\r\n", b"hello" + GET + END),
        (200, 200),
    ),
    Case("an expectation without a body", GET + b"expect: 100-continue\r\n\r\n" + GET + END, (200, 200)),
    Case("an empty line before a request", b"\r\n" + GET + b"\r\n" + GET + END, (200, 200)),
    Case("an absolute target of the same host", get(b"http://x/agents/echo"), (200,)),
    Case("a path with steps inside the root", get(b"/agents/echo/a/../b%2e/%41"), (200,)),
    Case("a target with bytes of UTF-8 in escapes", get(b"/agents/echo/%C3%BC?%"), (200,)),
    Case("a Host of an address with a port", get(b"/agents/echo", b"host: [::1]:80\r\n"), (200,)),
    Case("an error after a good request", GET + b"\r\nGET /x\0 HTTP/1.1\r\n\r\n" + HIDDEN, (200, 400)),
    Case(
        "a good request after a refused one with a body",
        b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: " + SIZE + b"\r\n\r\n" + HIDDEN,
        (404,),
    ),
    Case(
        "a good request after a refused one without",
        b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n" + GET + END,
        (404, 200),
    ),
]

BAD = [*LENGTHS, *CODINGS, *CHUNKS, *LINES, *AUTHORITIES, *UPGRADES]
CORPUS = [*BAD, *GOOD]
