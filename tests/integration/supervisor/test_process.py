"""The supervisor's process with the real gateway and a stand-in for the server: start, restart, refusal, end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from domain.home import Home
from local.gateway.tls import CERTIFICATE, KEY
from local.sandbox.watchdog import process_tree
from tests.fakes.certificates import Authority

CHECKOUT = Path(__file__).parents[3]
PATIENCE = 30.0  # seconds until a test that hangs fails
GIVES_UP = """
import os
from local.supervisor.children import give_up
from orchestrator_runtime.contract.errors import Conflict

give_up(Conflict("It will never do", code="never", hint="Leave it."), os.environ)
"""


@dataclass(slots=True)
class Running:
    process: subprocess.Popen[str]
    home: Home
    address: str

    def healthy(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.address}/healthz", timeout=PATIENCE) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def child(self, module: str) -> int | None:
        """The process that runs a module, if there is one."""
        for pid in process_tree(self.process.pid):
            with contextlib.suppress(OSError):
                if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
        return None


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="orc-") as name:
        server = Path(name) / "stand-in/control_api"
        server.mkdir(parents=True)
        (server / "__init__.py").touch()
        (server / "server.py").write_text("from tests.fakes.server_program import main\n\nmain()\n")
        yield Path(name)


def launch(
    folder: Path, *, port: int = 0, environ: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[str], int]:
    """A supervisor, and the descriptor on which it says that it serves."""
    reading, writing = os.pipe()
    argv = ["--home", str(folder / "home"), "--port", str(port), "--ready-fd", str(writing)]
    process = subprocess.Popen(
        [sys.executable, "-m", "local.supervisor", *argv],
        env={**os.environ, **(environ or {}), "PYTHONPATH": os.pathsep.join((str(folder / "stand-in"), str(CHECKOUT)))},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=(writing,),
    )
    os.close(writing)
    return process, reading


@contextlib.contextmanager
def running(folder: Path, *, port: int = 0, environ: Mapping[str, str] | None = None) -> Iterator[Running]:
    process, ready = launch(folder, port=port, environ=environ)
    try:
        with os.fdopen(ready) as line:
            address = line.readline().strip()
        yield Running(process, Home(folder / "home"), address)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_says_where_it_serves_once_server_and_gateway_do(folder: Path) -> None:
    with running(folder) as platform:
        assert platform.address.startswith("http://127.0.0.1:")
        assert platform.home.address.read_text().strip() == platform.address
        assert platform.healthy()
        assert platform.home.supervisor_pid.read_text() == f"{platform.process.pid}\n"


def test_it_may_open_more_files_than_a_shell_allows(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with running(folder) as platform:
            gateway = platform.child("local.gateway")
            assert gateway is not None
            assert resource.prlimit(gateway, resource.RLIMIT_NOFILE)[0] == min(hard, 65536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_second_start_is_refused_and_changes_nothing(folder: Path) -> None:
    with running(folder) as platform:
        second, ready = launch(folder)
        os.close(ready)
        said, _ = second.communicate(timeout=PATIENCE)
        assert second.returncode == 1
        assert "(already_running)" in said
        assert platform.healthy()


def test_if_the_port_is_taken_the_next_one_serves(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with running(folder, port=taken) as platform:
            assert taken < int(platform.address.rpartition(":")[2]) < taken + 50
            assert platform.healthy()


def test_a_gateway_that_is_killed_comes_back_at_the_same_address(folder: Path) -> None:
    with running(folder) as platform:
        first = platform.child("local.gateway")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        eventually(lambda: platform.child("local.gateway") not in {None, first})
        assert platform.healthy()  # who connects meanwhile waits in the backlog of the supervisor's socket


def test_a_server_that_is_killed_comes_back(folder: Path) -> None:
    with running(folder) as platform:
        first = platform.child("control_api.server")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        eventually(lambda: platform.child("control_api.server") not in {None, first})
        assert platform.healthy()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_with_everything_below_it(folder: Path, number: signal.Signals) -> None:
    with running(folder) as platform:
        below = set(process_tree(platform.process.pid))
        assert len(below) >= 3
        platform.process.send_signal(number)
        assert platform.process.wait(PATIENCE) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in below)
        assert platform.home.supervisor_pid.read_text() == ""


def test_while_it_ends_new_callers_are_refused_and_what_has_come_may_finish(folder: Path) -> None:
    with running(folder) as platform:
        host, _, port = platform.address.removeprefix("http://").partition(":")

        def refused() -> bool:
            try:
                socket.create_connection((host, int(port)), PATIENCE).close()
            except ConnectionRefusedError:
                return True
            return False

        with socket.create_connection((host, int(port)), PATIENCE) as call:
            call.sendall(b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
            assert platform.healthy()  # so the gateway has read what came before
            platform.process.terminate()
            eventually(refused)
            assert platform.process.poll() is None
        assert platform.process.wait(PATIENCE) == 0


def test_if_it_is_killed_nothing_below_it_stays(folder: Path) -> None:
    with running(folder) as platform:
        below = set(process_tree(platform.process.pid)) - {platform.process.pid}
        platform.process.kill()
        platform.process.communicate(timeout=PATIENCE)
        eventually(lambda: not any(_alive(pid) for pid in below))


def test_a_home_that_belongs_to_somebody_else_is_refused(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "home").symlink_to(folder / "elsewhere")
    process, ready = launch(folder)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "(folder_not_ours)" in said
    with os.fdopen(ready) as line:
        assert json.loads(line.readline())["code"] == "folder_not_ours"


def test_a_server_that_gives_up_after_a_restart_ends_everything_with_its_reason(folder: Path) -> None:
    with running(folder) as platform:
        (folder / "stand-in/control_api/server.py").write_text(GIVES_UP)
        first = platform.child("control_api.server")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        said, _ = platform.process.communicate(timeout=PATIENCE)
        assert platform.process.returncode == 1
        assert "It will never do (never). Leave it." in said


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_it_serves_by_tls_under_a_name_of_its_certificate(folder: Path) -> None:
    authority = Authority.create(folder)
    files = authority.issue("localhost")
    environ = {CERTIFICATE: str(files.certificate), KEY: str(files.key)}
    with running(folder, environ=environ) as platform:
        assert platform.address.startswith("https://localhost:")
        with urllib.request.urlopen(f"{platform.address}/healthz", context=authority.trusting()) as answer:
            assert answer.status == 200
            assert answer.headers["strict-transport-security"]
        gateway = platform.child("local.gateway")
        assert gateway is not None
        os.kill(gateway, signal.SIGKILL)
        with urllib.request.urlopen(f"{platform.address}/healthz", context=authority.trusting()) as answer:
            assert answer.status == 200


def test_a_certificate_that_is_wrong_ends_the_start_with_the_reason(folder: Path) -> None:
    authority = Authority.create(folder)
    one, other = authority.issue("localhost"), authority.issue("localhost", file="other")
    process, ready = launch(folder, environ={CERTIFICATE: str(one.certificate), KEY: str(other.key)})
    os.close(ready)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"{KEY}: the key in {other.key} does not belong to the certificate" in said


def test_another_address_of_the_loopback_may_be_served(folder: Path) -> None:
    with running(folder, environ={"ORCHESTRATOR_HOST": "127.0.0.2"}) as platform:
        assert platform.address.startswith("http://127.0.0.2:")
        assert platform.healthy()
