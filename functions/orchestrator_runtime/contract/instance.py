"""What an instance is told when it starts, and what it tells back: the supervisor's side and the runtime's.

The supervisor sends a zygote one small datagram per instance (`ForkRequest`) with six file descriptors. The last one is
a stream socket from which the instance itself reads its `InstanceStart` once it is isolated and the supervisor holds it
to its limits: secrets never pass through the zygote, and may be of any size. From then on the instance and the
supervisor talk over the `control` socket (SOCK_SEQPACKET, one JSON object per datagram):

    instance -> supervisor  {"event": "egress"} with one descriptor: a listening TCP socket in the instance's network
                            {"event": "ready", "load_ms": 12.5}
                            {"event": "failed", "problem": {...}}     it could not load; it exits by itself
    supervisor -> instance  {"event": "token", "journal_token": "..."} a fresh one, before the old one expires
                            {"event": "drain"}                         finish what is running, then exit
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

# Order of the descriptors that come with a ForkRequest.
FD_LISTEN, FD_CONTROL, FD_SOURCE, FD_STDOUT, FD_STDERR, FD_START = range(6)

# Where this package is inside an instance: RUNTIME_PATH/orchestrator_runtime is a read-only mount of the installation's
# own, and each environment holds a .pth naming RUNTIME_PATH. So no environment copies it and no user folder shadows it.
RUNTIME_PATH = "/opt/orchestrator/runtime"
SOURCE_PATH = "/app"  # where the agent's folder is inside an instance
SCRATCH_PATH = "/tmp"  # noqa: S108 - a private tmpfs of the instance, not the host's
JOURNAL_SOCKET = "/run/orchestrator/journal.sock"
EGRESS_PORT = 3128  # HTTP and SOCKS5 proxy on the instance's own loopback


@dataclass(frozen=True, slots=True)
class Limits:
    """What one instance may use; enforced by the kernel or, for memory without cgroups, by a watchdog."""

    memory_bytes: int
    cpu: float  # cores
    processes: int = 256
    open_files: int = 4096
    scratch_bytes: int = 256 * 1024 * 1024
    scratch_files: int = 65536


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """What a zygote must know to isolate an instance; `cpus` are the ones it is held to where no control group can."""

    instance: str
    limits: Limits
    network: bool
    cpus: tuple[int, ...] = ()

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ForkRequest:
        """Read what `to_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        values = json.loads(data)
        return cls(
            instance=str(values["instance"]),
            limits=Limits(**values["limits"]),
            network=bool(values["network"]),
            cpus=tuple(int(cpu) for cpu in values["cpus"]),
        )


@dataclass(frozen=True, slots=True)
class InstanceStart:
    """Everything an instance needs to know. Times are in seconds, sizes in bytes."""

    instance: str
    organization: str
    agent: str
    revision: str
    version: str  # content digest
    framework: str  # plain | langgraph | crewai | agno
    entrypoint: str  # "module:attribute"
    limits: Limits
    concurrency: int  # requests at once; 0 is unlimited
    timeout: float  # of one run
    grace: float  # between a cancel or drain and the kill
    payload_limit: int
    call_token: str  # what a caller must present in Orchestrator-Call-Token
    journal_token: str
    network: str = "internet"  # internet | none | hosts; which hosts is the proxy's business
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # telemetry and the like

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> InstanceStart:
        """Read what `to_json` wrote; members that this version does not know are ignored (a newer supervisor)."""
        values = json.loads(data)
        known = {item.name for item in fields(cls)}
        limits = {item.name for item in fields(Limits)}
        values = {key: value for key, value in values.items() if key in known}
        values["limits"] = Limits(**{key: value for key, value in values["limits"].items() if key in limits})
        return cls(**values)
