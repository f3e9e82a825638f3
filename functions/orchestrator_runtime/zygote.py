"""`python -m orchestrator_runtime.zygote FRAMEWORK…`: import an environment once, fork an instance in milliseconds.

Started by `local.sandbox.zygote` as the first process of a sandbox, with a SOCK_SEQPACKET socket whose number is in
ORCHESTRATOR_ZYGOTE_FD. It takes a `ForkRequest` with six descriptors per datagram (contract/instance.py) and says

    {"event": "ready", "preload_ms": 812.5, "modules": 2210, "missing": ["langchain_openai"]}
    {"event": "forked", "instance": "…"} with a descriptor of the instance's process
    {"event": "refused", "instance": "…", "detail": "…"}
    {"event": "exited", "pid": 17, "code": 0}     as numbered inside; negative for a signal

It has one thread and no privileges, opens nothing, and never runs an agent's code. The instance isolates itself:
see `instance`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from orchestrator_runtime import instance
from orchestrator_runtime.contract.instance import FD_START, SCRATCH_PATH, ForkRequest
from orchestrator_runtime.contract.sandbox import kernel, mounts, namespaces, seccomp
from orchestrator_runtime.frameworks import entrypoint, preload

SOCKET_VARIABLE = "ORCHESTRATOR_ZYGOTE_FD"
LARGEST = 64 * 1024
DESCRIPTORS = FD_START + 1

RunInstance = Callable[[ForkRequest, list[int]], NoReturn]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m orchestrator_runtime.zygote", description=__doc__)
    parser.add_argument("--server", default=instance.SERVER, help="module whose serve() an instance runs")
    parser.add_argument("frameworks", nargs="*")
    arguments = parser.parse_args()
    supervisor = socket.socket(fileno=int(os.environ.pop(SOCKET_VARIABLE)))
    supervisor.set_inheritable(False)
    loaded = _preload([*preload.modules(arguments.frameworks), arguments.server], arguments.frameworks)
    _say(supervisor, {"event": "ready", **loaded})
    serve(supervisor, server=arguments.server)


def serve(supervisor: socket.socket, *, server: str) -> None:
    """Fork an instance per datagram until the supervisor hangs up."""
    user = os.geteuid(), os.getegid()
    run_instance = partial(instance.run, user=user, server=server, keep=mounts.mounted_below(SCRATCH_PATH))
    signal.signal(signal.SIGCHLD, lambda *_: _reap(supervisor))  # interrupts the wait below, which then goes on
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(supervisor, LARGEST, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:  # it hung up with our words unread
            return
        if not data:
            return
        try:
            _fork(supervisor, data, descriptors, run_instance)
        except (ValueError, KeyError, TypeError, OSError) as error:  # a bad datagram, or no more processes
            _say(supervisor, {"event": "refused", "instance": _named(data), "detail": str(error) or repr(error)})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _preload(modules: Sequence[str], frameworks: Sequence[str]) -> dict[str, object]:
    """Import, and leave memory as a fork wants it: nothing to collect, nothing that reference counts would copy."""
    started = time.perf_counter()
    missing = []
    gc.disable()
    for name in dict.fromkeys(modules):
        try:
            importlib.import_module(name)
        except ImportError:  # this environment, or this version of the framework, does not have it
            missing.append(name)
        except Exception:  # noqa: BLE001 - a package may raise anything; an agent that needs it will say so itself
            traceback.print_exc()
            missing.append(name)
    rehearsed = [] if instance.SERVER not in sys.modules else _rehearse(frameworks)
    entrypoint.remember_modules()
    seccomp.assembled(kernel.MACHINE)
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads != 1:
        raise SystemExit(f"importing {', '.join(modules)} started {threads - 1} threads, which no fork would survive")
    gc.collect()
    gc.freeze()
    kernel.malloc_trim()
    elapsed = (time.perf_counter() - started) * 1000
    return {"preload_ms": round(elapsed, 1), "modules": len(sys.modules), "missing": missing, "rehearsed": rehearsed}


def _rehearse(frameworks: Sequence[str]) -> list[str]:
    from orchestrator_runtime import rehearsal  # needs the server's packages, which an environment may lack

    return [name for name in frameworks if rehearsal.rehearse(name)]


def _fork(supervisor: socket.socket, data: bytes, descriptors: list[int], run_instance: RunInstance) -> None:
    request = ForkRequest.from_json(data)
    if len(descriptors) != DESCRIPTORS:
        raise ValueError(f"{len(descriptors)} descriptors came with a fork request, not {DESCRIPTORS}")
    child = namespaces.fork_into(namespaces.NEWUSER | namespaces.ALL_BUT_USER)
    if child == 0:
        supervisor.close()
        run_instance(request, descriptors)
    message = {"event": "forked", "instance": request.instance}
    process = os.pidfd_open(child)
    try:
        socket.send_fds(supervisor, [json.dumps(message).encode()], [process])
    finally:
        os.close(process)


def _reap(supervisor: socket.socket) -> None:
    """Whatever has ended is told and forgotten."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with contextlib.suppress(OSError):  # nobody depends on it: the supervisor watches the descriptor
            message = {"event": "exited", "pid": pid, "code": os.waitstatus_to_exitcode(status)}
            supervisor.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)


def _named(data: bytes) -> str:
    """Which instance a refused datagram was about, if it says so."""
    try:
        return str(json.loads(data)["instance"])
    except (ValueError, KeyError, TypeError):
        return ""


def _say(supervisor: socket.socket, message: dict[str, object]) -> None:
    supervisor.send(json.dumps(message).encode())


if __name__ == "__main__":
    main()
