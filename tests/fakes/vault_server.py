"""A Vault for tests, by its documented HTTP API: the transit and key/value engines, tokens, and being sealed.

`vault()` gives this one, or a real one in development mode where ORCHESTRATOR_TEST_VAULT names the program
(`make test-vault`). Both are set up and asked in the same way, over HTTP.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_api.settings import VaultSettings
from tests.integration.postgres import free_port

PROGRAM = "ORCHESTRATOR_TEST_VAULT"
ROOT = "root-token"
SEALED = (503, ["Vault is sealed"])
DENIED = (403, ["permission denied"])


@dataclass(slots=True)
class RunningVault:
    """A running Vault with the engines mounted, and the key `orchestrator`."""

    address: str
    unseal_key: str

    @property
    def settings(self) -> VaultSettings:
        return VaultSettings(address=self.address, token=ROOT)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": ROOT, "Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def seal(self) -> None:
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        self.ask("PUT", "sys/unseal", {"key": self.unseal_key})

    def put(self, path: str, **values: str) -> None:
        """Store values in the key/value engine."""
        self.ask("POST", f"secret/data/{path}", {"data": values})

    def make_key(self, name: str) -> None:
        self.ask("POST", f"transit/keys/{name}", {"type": "aes256-gcm96"})


@contextlib.contextmanager
def vault() -> Iterator[RunningVault]:
    with _real(os.environ[PROGRAM]) if os.environ.get(PROGRAM) else _fake() as running:
        running.ask("POST", "sys/mounts/transit", {"type": "transit"})
        running.make_key("orchestrator")
        yield running


@contextlib.contextmanager
def _fake() -> Iterator[RunningVault]:
    state = _State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield RunningVault(f"http://127.0.0.1:{server.server_address[1]}", state.unseal_key)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def _real(program: str) -> Iterator[RunningVault]:
    address = f"127.0.0.1:{free_port()}"
    command = [program, "server", "-dev", f"-dev-root-token-id={ROOT}", f"-dev-listen-address={address}"]
    command.append("-dev-no-store-token")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            found = re.search(r"Unseal Key: (\S+)", said)
            if found and "Root Token" in line:
                break
        else:
            raise RuntimeError(f"Vault did not start:\n{said}")
        drain = threading.Thread(target=process.stdout.read, daemon=True)  # else it blocks when the pipe is full
        drain.start()
        yield RunningVault(f"http://{address}", found[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass(slots=True)
class _State:
    unseal_key: str = field(default_factory=lambda: secrets.token_hex(16))
    sealed: bool = False
    keys: dict[str, list[bytes]] = field(default_factory=dict)
    values: dict[str, list[dict[str, str]]] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    state: _State
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("POST")  # Vault takes either for an update

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def _answer(self, method: str) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        path = self.path.removeprefix("/v1/").partition("?")[0]
        status, data = self._ask(method, path, body)
        text = b"" if data is None else json.dumps({"errors": data} if status >= 400 else {"data": data}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        state = self.state
        if path == "sys/unseal":
            state.sealed = state.sealed and body["key"] != state.unseal_key
            return 200, {"sealed": state.sealed}
        if state.sealed:
            return SEALED
        if self.headers.get("X-Vault-Token") != ROOT:
            return DENIED
        if path == "sys/seal":
            state.sealed = True
            return 204, None
        if path == "sys/mounts/transit":
            return 204, None
        engine, _, rest = path.partition("/")
        if engine == "transit":
            return self._transit(rest, body)
        if engine == "secret":
            return self._values(method, rest.removeprefix("data/"), body)
        return 404, []

    def _transit(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        keys = self.state.keys
        verb, name, *more = path.split("/")
        if verb == "keys" and not more:
            keys.setdefault(name, [secrets.token_bytes(32)])
            return 200, {"name": name}
        if verb == "keys":
            keys[name].append(secrets.token_bytes(32))
            return 200, {"name": name}
        versions = keys.get(name)
        if versions is None and verb == "decrypt":
            return 400, ["encryption key not found"]
        if versions is None:  # a token that may do everything makes the key by using it
            versions = keys[name] = [secrets.token_bytes(32)]
        authenticated = base64.b64decode(body.get("associated_data") or "")
        if verb == "encrypt":
            nonce = secrets.token_bytes(12)
            sealed = AESGCM(versions[-1]).encrypt(nonce, base64.b64decode(body["plaintext"]), authenticated)
            return 200, {"ciphertext": f"vault:v{len(versions)}:{base64.b64encode(nonce + sealed).decode()}"}
        found = re.fullmatch(r"vault:v(\d+):(.*)", body["ciphertext"])
        if found is None or not 0 < int(found[1]) <= len(versions):
            return 400, ["invalid ciphertext"]
        sealed = base64.b64decode(found[2])
        try:
            content = AESGCM(versions[int(found[1]) - 1]).decrypt(sealed[:12], sealed[12:], authenticated)
        except (InvalidTag, ValueError):  # ValueError: too short
            return 400, ["cipher: message authentication failed"]
        return 200, {"plaintext": base64.b64encode(content).decode()}

    def _values(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if method == "POST":
            self.state.values.setdefault(path, []).append(body["data"])
            return 200, {"version": len(self.state.values[path])}
        versions = self.state.values.get(path)
        if versions is None:
            return 404, []
        return 200, {"data": versions[-1], "metadata": {"version": len(versions)}}
