"""A model endpoint without a model, on loopback: OpenAI's and Anthropic's protocols, answers as `model_script` says.

    python -m tests.fakes.model_server --port 0      prints its address; the base URL of OpenAI's SDK is that plus /v1

    POST /v1/chat/completions, /v1/responses, /v1/messages     whole or streamed
    GET  /v1/models
    GET  /requests       every request, in order: [{path, headers, body}], so that a test can count them

Uses the standard library only: it also runs in environments of frameworks, and beside benchmarks.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.model_dialects import ChatCompletions, Dialect, Messages, Responses, identity_of
from tests.fakes.model_script import BREAK, FAIL, Question, Spoken, answer

MODELS = ("fake-1", "fake-2")
DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": ChatCompletions(),
    "/v1/responses": Responses(),
    "/v1/messages": Messages(),
}


@dataclass(frozen=True, slots=True)
class Received:
    """A request. `headers` have lower case names."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class ModelServer(ThreadingHTTPServer):
    request_queue_size = 256

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.requests: list[Received] = []
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Without a path; Anthropic's SDK takes it like this."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is none; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def note(self, received: Received, identity: str) -> bool:
        """Keep the request; says whether it is the first of its identity."""
        with self._lock:
            self.requests.append(received)
            is_first = identity not in self._seen
            self._seen.add(identity)
        return is_first


@contextmanager
def model_server(port: int = 0) -> Iterator[ModelServer]:
    with ModelServer(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a response leaves in one piece; streams are flushed event by event
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
        elif self.path == "/requests":
            shown = [
                {"path": received.path, "headers": received.headers, "body": received.body}
                for received in self.server.requests
            ]
            self._send(200, shown)
        else:
            self._send(404, {"error": {"message": f"no such path: {self.path}"}})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        dialect = DIALECTS.get(self.path)
        if dialect is None:
            self._send(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        body = json.loads(data)
        headers = {name.lower(): value for name, value in self.headers.items()}
        identity = identity_of(body)
        is_first = self.server.note(Received(self.path, headers, body), identity)
        question = dialect.read(body)
        fail = FAIL.search(question.user_text())
        if fail is not None and (is_first or not fail[2]):
            self._send(int(fail[1]), dialect.error(int(fail[1])))
            return
        spoken = answer(question)
        if question.stream:
            self._stream(dialect, question, spoken, identity)
        else:
            self._send(200, dialect.whole(question, spoken, identity))

    def _send(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, dialect: Dialect, question: Question, spoken: Spoken, identity: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, (event, data) in enumerate(dialect.events(question, spoken, identity)):
            if number == 2 and BREAK in question.user_text():
                self.close_connection = True
                return
            name = f"event: {event}\n" if event else ""
            content = f"{name}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the inherited method's
        """Quiet: what was asked is in `requests`."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.model_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    with ModelServer(parser.parse_args().port) as server:
        print(server.url, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
