"""Canaries: what must stay secret is looked for wherever anything comes out. The places are found, not listed."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import new_installation
from tests.e2e.platform import Installation, write_agent

SECRET = "canary-secret-51f0c7"  # the value of a secret: to be seen by the instance alone
FORMER = "canary-former-8a42de"  # its version before
PAYLOAD = "canary-payload-0c9b13"  # what a caller sends and gets: to be seen by the API's callers alone
MASTER = base64.b64encode(b"canary-master-key-of-32-bytes-!!").decode()
BEFORE = base64.b64encode(b"canary-former-key-of-32-bytes-!!").decode()
VAULT_TOKEN = "canary-vault-token-77aa20"
CODE = """
import os
from orchestrator_runtime import Run

async def look(value):
    return len(os.environ["CANARY"])

async def handle(input, run: Run):
    length = await run.step("look", look, input)
    if input.get("fail"):
        raise ValueError("it fails after using the secret")
    return {"length": length, "text": input["text"]}
"""
SETTINGS = {
    "ORCHESTRATOR_ENCRYPTION_SOURCE": "environment",
    "ORCHESTRATOR_ENCRYPTION_KEY": MASTER,
    "ORCHESTRATOR_ENCRYPTION_PREVIOUS_KEYS": BEFORE,
    "ORCHESTRATOR_VAULT_TOKEN": VAULT_TOKEN,
}


def forms(canary: str) -> list[bytes]:
    """How a value may look where it was written: as it is, in hex, and in base64 at each of three offsets."""
    raw = canary.encode()
    shifted = [base64.b64encode(b"\0" * offset + raw)[(4 if offset else 0) : -4] for offset in range(3)]
    plain = base64.b64decode(raw) if canary in {MASTER, BEFORE} else raw
    return [raw, raw.hex().encode(), plain, plain.hex().encode(), *shifted]


def has(content: bytes, *canaries: str) -> list[str]:
    return [canary for canary in canaries if any(form in content for form in forms(canary))]


@pytest.fixture(scope="module")
def tainted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A platform whose secrets, payloads and settings are canaries, with runs that ended well and badly."""
    with new_installation(**SETTINGS) as platform, platform.client() as client:
        for value in (FORMER, SECRET):
            client.put("/api/v1/secrets/CANARY", json={"value": value}).raise_for_status()
        folder = write_agent(
            tmp_path_factory.mktemp("agents") / "tainted", name="tainted", code=CODE, manifest="secrets: [CANARY]\n"
        )
        platform.deploy(folder)
        answer = client.post("/agents/tainted", json={"text": PAYLOAD}, headers={"orchestrator-session": "s-1"})
        assert answer.json() == {"length": len(SECRET), "text": PAYLOAD}
        assert client.post("/agents/tainted", json={"text": PAYLOAD, "fail": True}).status_code == 500
        client.post("/api/v1/backups").raise_for_status()
        yield platform


def operations(client: httpx.Client) -> dict[str, dict[str, Any]]:
    document = client.get("/api/v1/openapi.json").json()
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def parameters(client: httpx.Client) -> dict[str, str]:
    """A value for each parameter of a path: something that exists."""
    runs = client.get("/api/v1/runs", params={"agent": "tainted"}).json()["items"]
    deployment = client.get("/api/v1/deployments", params={"agent": "tainted"}).json()["items"][0]
    return {
        "revision": deployment["revision"],
        "run": runs[-1]["id"],
        "session": "s-1",
        "digest": deployment["digest"],
        "build": client.get("/api/v1/builds", params={"agent": "tainted"}).json()["items"][0]["id"],
        "deployment": deployment["id"],
        "seq": "1",
        "version": "1",
    }


def address(path: str, values: dict[str, str]) -> str:
    name = "CANARY" if "/secrets/" in path else "tainted"
    return re.sub(r"\{(\w+)\}", lambda found: {**values, "name": name}[found[1]], path)


def read(client: httpx.Client, path: str) -> tuple[int, bytes]:
    """The answer; of a stream that does not end, what it says at once."""
    content = b""
    with client.stream("GET", path, timeout=2.0) as answer:
        try:
            for chunk in answer.iter_raw():
                content += chunk
        except httpx.ReadTimeout:  # it goes on only when something happens
            pass
        return answer.status_code, content + str(answer.headers).encode()


def test_no_operation_answers_with_a_secret(tainted: Installation) -> None:
    with tainted.client() as client:
        values = parameters(client)
        for operation in operations(client):
            method, path = operation.split(" ")
            if method != "GET":
                continue
            status, content = read(client, address(path, values))
            assert status == 200, f"{operation} was not really asked: {status} {content!r}"
            assert has(content, SECRET, FORMER, MASTER, BEFORE, VAULT_TOKEN) == [], operation


def test_no_error_document_repeats_what_was_sent(tainted: Installation) -> None:
    with tainted.client() as client:
        for operation in operations(client):
            method, path = operation.split(" ")
            wrong = re.sub(r"\{\w+\}", "00000000-none", path)
            for content, kind in (
                (json.dumps({"value": [SECRET], "canary": SECRET, "digest": [SECRET]}), "application/json"),
                (SECRET, "text/plain"),
            ):
                headers = {"content-type": kind, "x-canary": SECRET}
                with client.stream(method, wrong, content=content, headers=headers, timeout=2.0) as answer:
                    if answer.status_code < 400:
                        continue  # it takes no body, and is looked at above
                    assert has(answer.read(), SECRET) == [], operation
        assert has(client.get("/api/v1/agents", headers={"authorization": f"Bearer {SECRET}"}).content, SECRET) == []


def test_no_file_holds_a_secret_a_payload_or_a_key(tainted: Installation) -> None:
    files = [path for path in tainted.home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"orchestrator.db", "platform.log"} <= {path.name for path in files}
    assert any(path.parent.name == "backups" for path in files)
    found = {path: has(path.read_bytes(), SECRET, FORMER, PAYLOAD, MASTER, BEFORE, VAULT_TOKEN) for path in files}
    assert {str(path.relative_to(tainted.home)): canaries for path, canaries in found.items() if canaries} == {}


def processes(root: int) -> dict[int, bytes]:
    """Environment and command line, as they were when it was started, of each process of the platform."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
    ours = {root}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    found = {}
    for pid in ours:
        try:
            found[pid] = b"".join(Path(f"/proc/{pid}/{part}").read_bytes() for part in ("cmdline", "environ"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_no_process_was_started_with_a_secret_and_only_the_server_with_keys(tainted: Installation) -> None:
    with tainted.client() as client:
        client.post("/agents/tainted", json={"text": PAYLOAD}).raise_for_status()  # so that an instance lives
    assert tainted.process is not None
    found = processes(tainted.process.pid)
    assert len(found) >= 5, "supervisor, server, gateway, zygote, instance"
    for pid, content in found.items():
        assert has(content, SECRET, FORMER, PAYLOAD) == [], content
        may = pid == tainted.process.pid or b"control_api.server" in content
        assert may or has(content, MASTER, BEFORE, VAULT_TOKEN) == [], content


def test_a_deleted_secret_is_in_no_file_that_a_stopped_platform_leaves(tmp_path: Path) -> None:
    """Also not in pages that the database no longer uses: what was ever there was sealed."""
    with new_installation() as platform:
        with platform.client() as client:
            client.put("/api/v1/secrets/CANARY", json={"value": SECRET}).raise_for_status()
            client.delete("/api/v1/secrets/CANARY").raise_for_status()
        platform.stop()
        files = [path for path in platform.home.rglob("*") if path.is_file()]
        assert [str(path) for path in files if has(path.read_bytes(), SECRET)] == []
        assert os.access(platform.home / "master.key", os.R_OK)
        platform.start()
