"""`python -m local.sandbox.launch ORDER REPORT`: become the sandbox that an order describes, then its program.

Started by `process.start`; runs before any code that is not ours. It imports the standard library and the contract
only, because its start is part of every build's and every zygote's. It ends in `exec` or in a report of what failed.

    launcher: join control groups ─ new namespaces ─ network ─ fork a sibling ─ report its descriptor ─ exit
    sibling (process 1 of the sandbox): private root ─ organization's uid ─ limits ─ no privileges ─ exec
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from local.sandbox import etc
from local.sandbox.filesystem import enter_private_root
from local.sandbox.spec import SandboxSpec
from orchestrator_runtime.contract.sandbox import limits, mounts, namespaces, network, privileges, seccomp

FAILED = 70  # exit status of a launcher that could not do it


@dataclass(frozen=True, slots=True)
class Order:
    """A spec, and how its limits are kept: `cgroup.procs` files to join, or processors to stay on."""

    spec: SandboxSpec
    groups: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()

    def to_json(self) -> bytes:
        return json.dumps({"spec": json.loads(self.spec.to_json()), "groups": self.groups, "cpus": self.cpus}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Order:
        values = json.loads(data)
        return cls(SandboxSpec.from_fields(values["spec"]), tuple(values["groups"]), tuple(values["cpus"]))


def main() -> None:
    order_descriptor, report_descriptor = (int(argument) for argument in sys.argv[1:])
    report = socket.socket(fileno=report_descriptor)
    report.set_inheritable(False)
    try:
        with os.fdopen(order_descriptor, "rb") as file:
            order = Order.from_json(file.read())
        egress = _isolate(order)
        child = namespaces.fork_sibling()
        if child == 0:
            _become_program(order)
        descriptors = [os.pidfd_open(child), *([egress.fileno()] if egress else [])]
        socket.send_fds(report, [b'{"event": "forked"}'], descriptors)
    except BaseException as error:  # noqa: BLE001 - a process border: whatever it is, the supervisor must hear of it
        report.send(json.dumps({"event": "failed", "detail": str(error) or repr(error)}).encode())
        os._exit(FAILED)
    os._exit(0)


def _isolate(order: Order) -> socket.socket | None:
    """Everything that the sandbox's first process finds done. Returns the socket of its way out, if it has one."""
    spec = order.spec
    for group in order.groups:
        Path(group).write_text("0")
    new = namespaces.ALL_BUT_USER & ~(namespaces.NEWNET if spec.network == "host" else 0)
    if spec.uid is None:
        namespaces.enter_user_namespace(new)
    else:
        namespaces.unshare(new)
    mounts.keep_private()
    socket.sethostname(etc.HOST_NAME)
    if spec.network == "host":
        return None
    network.bring_loopback_up()
    return network.listen_for_egress() if spec.network == "proxy" else None


def _become_program(order: Order) -> None:
    spec = order.spec
    uid, gid = (os.getuid(), os.getgid()) if spec.uid is None else (spec.uid, spec.uid)
    enter_private_root(spec, uid=uid, gid=gid)
    limits.be_first_to_go()  # what root has raised, nobody below lowers again
    if spec.uid is not None:
        privileges.become(spec.uid)
        namespaces.enter_user_namespace()
    privileges.die_with_parent()
    os.setsid()
    limits.hold_to_cpus(order.cpus)
    limits.apply(spec.limits)
    privileges.drop_capabilities()
    privileges.forbid_new_privileges()
    seccomp.install(isolating=spec.forks_instances)
    os.chdir(spec.cwd)
    proxies = network.proxy_environment() if spec.network == "proxy" else {}
    os.execve(spec.argv[0], spec.argv, {**proxies, **spec.env})  # noqa: S606 - the spec's argv, no shell


if __name__ == "__main__":
    main()
