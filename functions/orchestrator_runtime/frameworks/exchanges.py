"""A model endpoint's answer: as it is recorded and given again, and what it says about model and tokens.

Used by `recording`. It knows the shapes of OpenAI's chat completions, responses and embeddings and of Anthropic's
messages, whole and streamed; of anything else it keeps the bytes and knows nothing.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ENDPOINTS = ("/chat/completions", "/responses", "/embeddings", "/v1/messages")
KEPT_HEADERS = ("content-type", "request-id", "x-request-id", "openai-processing-ms")
_LAST_EVENT = re.compile(
    rb"(?:^|\n)(?:data: ?\[DONE\]|event: ?(?:message_stop|response\.(?:completed|incomplete|failed)))"
)
_TOKENS = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
}


class ModelEndpointError(Exception):
    """The endpoint refused a call; its own words are the message."""


class StreamBrokenError(Exception):
    """A streamed answer was not read to its end."""

    def __init__(self) -> None:
        super().__init__("the stream was closed before its end")


@dataclass(frozen=True, slots=True)
class Exchange:
    """An HTTP response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def kept_headers(self) -> dict[str, str]:
        """Those that mean something to an SDK; not those of the connection it came by."""
        return {name: value for name, value in self.headers.items() if name.lower() in KEPT_HEADERS}

    def to_answer(self) -> dict[str, Any]:
        """JSON from which `from_answer` makes an equal one; readable where the body is."""
        answer: dict[str, Any] = {"status": self.status, "headers": self.kept_headers()}
        content = decode(self.body)
        if isinstance(content, dict):
            return {**answer, "json": content}
        try:
            return {**answer, "text": self.body.decode()}
        except UnicodeDecodeError:
            return {**answer, "base64": base64.b64encode(self.body).decode()}

    def facts(self) -> dict[str, Any]:
        """What a step says of the call: model, input_tokens, output_tokens, as far as they are known."""
        facts: dict[str, Any] = {}
        for content in self._contents():
            for holder in (content, content.get("response"), content.get("message")):
                if not isinstance(holder, dict):
                    continue
                if isinstance(holder.get("model"), str):
                    facts["model"] = holder["model"]
                usage = holder.get("usage")
                for name, count in usage.items() if isinstance(usage, dict) else ():
                    if name in _TOKENS and isinstance(count, int):
                        facts[_TOKENS[name]] = count
        return facts

    def error(self) -> ModelEndpointError:
        return ModelEndpointError(f"{self.status}: {self.body[:2000].decode(errors='replace')}")

    def _contents(self) -> Iterator[dict[str, Any]]:
        if "event-stream" not in self.headers.get("content-type", ""):
            content = decode(self.body)
            if isinstance(content, dict):
                yield content
            return
        for line in self.body.splitlines():
            content = decode(line[5:]) if line.startswith(b"data:") else None
            if isinstance(content, dict):
                yield content


def from_answer(answer: bytes) -> Exchange:
    """The exchange that `to_answer` described."""
    values = json.loads(answer)
    if "json" in values:
        body = json.dumps(values["json"]).encode()
    elif "text" in values:
        body = values["text"].encode()
    else:
        body = base64.b64decode(values["base64"])
    return Exchange(values["status"], values["headers"], body)


class Stream:
    """A streamed answer while it comes."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, dict(headers)
        self._body = bytearray()

    def add(self, chunk: bytes) -> bool:
        """Keep a chunk; says whether the last event is whole now. An SDK may stop reading there."""
        self._body += chunk
        if not self._body.endswith((b"\n\n", b"\r\n\r\n")):
            return False
        start = max(self._body.rfind(b"\n\n", 0, -2), self._body.rfind(b"\r\n\r\n", 0, -4), 0)
        return _LAST_EVENT.search(self._body, start) is not None

    def has_last_event(self) -> bool:
        return _LAST_EVENT.search(self._body) is not None

    def exchange(self) -> Exchange:
        return Exchange(self._status, self._headers, bytes(self._body))


def decode(data: bytes) -> Any:
    """JSON as a value; None if it is none."""
    try:
        return json.loads(data)
    except ValueError:
        return None
