"""Processes beside the platform: baselines in their own environments, and the model endpoint that agents call."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.agents import CALLS_MODEL, INPUT, LOCKS, agent, model_variables
from tests.bench.harness import Workspace
from tests.bench.load import Answer, Call, call_once
from tests.fakes.environments import ROOT, environment, process_environment

START_TIMEOUT = 30.0
CORES = os.cpu_count() or 1

SYNC_FUNCTION = """
import functions_framework


@functions_framework.http
def handle(request):
    return {"greeting": f"hello {request.get_json()['name']}"}
"""

ASGI_FUNCTION = """
import functions_framework.aio


@functions_framework.aio.http
async def handle(request):
    return {"greeting": f"hello {(await request.json())['name']}"}
"""


def python_of(kind: str) -> Path:
    """The Python with the packages of `locks/KIND.lock`, bytecode compiled; a plain agent needs only a server."""
    name = "langgraph" if kind == "plain" else kind
    return environment(f"bench-{name}", LOCKS / f"{name}.lock")


def fresh_process(kind: str, folder: Path, *, model_url: str) -> float:
    """Seconds from starting a process for the agent in `folder` to the first byte of its first answer."""
    python_of(kind)  # made beforehand, if it was not
    started = time.perf_counter()
    with serving(kind, folder, model_url=model_url) as (call, _):
        return checked(call_once(call, started=started)).first


@contextlib.contextmanager
def serving(kind: str, folder: Path, *, model_url: str) -> Iterator[tuple[Call, subprocess.Popen[bytes]]]:
    """A process that serves the agent in `folder`, and a call of it, which may be sent at once."""
    listening = socket.create_server(("127.0.0.1", 0))
    call = Call(f"http://127.0.0.1:{listening.getsockname()[1]}", json.dumps(INPUT[kind]).encode())
    program = str(Path(__file__).with_name("baseline_server.py"))
    command = [str(python_of(kind)), "-P", program, kind, str(listening.fileno())]  # -P: our modules are not its
    variables = process_environment(**(model_variables(model_url) if kind in CALLS_MODEL else {}))
    with running(command, cwd=folder, environment=variables, pass_fds=(listening.fileno(),)) as process:
        listening.close()  # only the process has it now: should it fail, the call does too
        yield call, process


def write_agent(workspace: Workspace, kind: str, *, model_url: str) -> Path:
    """The folder of the agent that `fresh_process` starts."""
    return agent(f"baseline-{kind}", kind, model_url=model_url).write(workspace.folder / "baseline" / kind)


@contextlib.contextmanager
def functions_framework(workspace: Workspace, *, asgi: bool) -> Iterator[str]:
    """The address of one of its two production servers, with as many worker processes as there are cores."""
    folder = workspace.folder / "baseline" / ("asgi" if asgi else "sync")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(ASGI_FUNCTION if asgi else SYNC_FUNCTION)
    port = free_port()
    python = python_of("functions-framework")
    command = [
        str(python.with_name("functions-framework")),
        *("--target", "handle", "--host", "127.0.0.1", "--port", str(port), *(["--asgi"] if asgi else [])),
    ]
    with running(command, cwd=folder, environment=process_environment(WORKERS=str(CORES))):
        wait_until_connected(port)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def model(port: int) -> Iterator[str]:
    """The address of the model endpoint on this port."""
    command = [sys.executable, "-m", "tests.fakes.model_server", "--port", str(port)]
    with running(command, cwd=ROOT, environment=process_environment()):
        wait_until_connected(port)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended when it is not needed any more; what it prints is shown only by a baseline that fails."""
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, pass_fds=pass_fds, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # a framework's threads may keep it
            process.kill()
            process.wait()


def kept_port(workspace: Workspace) -> int:
    """The port of this benchmark's model endpoint: agents were deployed with it, so it is the same every time."""
    path = workspace.folder / "model-port"
    if not path.exists():
        path.write_text(str(free_port()))
    return int(path.read_text())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until_connected(port: int) -> None:
    """Raises `TimeoutError` if nothing listens in time."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens at port {port}") from None
            time.sleep(0.02)
        else:
            return


def checked(answer: Answer) -> Answer:
    """Raises `RuntimeError` for an answer that is an error: a benchmark of failures says nothing."""
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {answer.body.decode(errors='replace')[:2000]}")
    return answer
