"""The gateway's settings: read once from ORCHESTRATOR_* by `__main__`, then passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from domain.home import Home

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may take. Sizes in bytes, times in seconds."""

    head_bytes: int = 64 * 1024  # request line and header fields
    header_fields: int = 128
    body_bytes: int = 1024 * MEBIBYTE  # of API calls; the server has its own limits, and so has each agent
    async_bytes: int = 64 * MEBIBYTE  # a body that is handed to the server whole (Prefer: respond-async)
    waiting_bytes: int = 256 * MEBIBYTE  # of all bodies that wait for an instance or are collected for the server
    head_timeout: float = 15.0  # from the first byte of a request to the end of its head
    idle_timeout: float = 75.0  # between two requests of a connection
    body_timeout: float = 60.0  # without a byte of a body that is not complete
    queue_depth: int = 10_000  # waiting calls per revision, as Knative's activator
    probe_timeout: float = 5.0  # for an idle instance to say that it lives
    high_water: int = 256 * 1024  # bytes held for an end that does not read, before the other one is paused


@dataclass(frozen=True, slots=True)
class Settings:
    """`listen_fd` and `egress_fd` were opened by the supervisor; without an `egress_fd` instances have no way out."""

    control_socket: Path
    supervisor_socket: Path
    api_socket: Path
    listen_fd: int
    egress_fd: int | None = None
    egress_allow: tuple[str, ...] = ()
    log_level: str = "INFO"
    zero_grace: float = 30.0  # seconds an idle last instance is kept after its window
    drain: float = 30.0  # seconds that open calls get after SIGTERM
    limits: Limits = Limits()


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` gives; a missing ORCHESTRATOR_LISTEN_FD is a `KeyError`."""
    home = Home.from_environment(environ)
    egress = environ.get("ORCHESTRATOR_EGRESS_FD")
    return Settings(
        control_socket=home.control_socket,
        supervisor_socket=home.supervisor_socket,
        api_socket=home.api_socket,
        listen_fd=int(environ["ORCHESTRATOR_LISTEN_FD"]),
        egress_fd=int(egress) if egress else None,
        egress_allow=tuple(environ.get("ORCHESTRATOR_EGRESS_ALLOW", "").replace(",", " ").split()),
        log_level=environ.get("ORCHESTRATOR_LOG_LEVEL") or "INFO",
        zero_grace=float(environ.get("ORCHESTRATOR_SCALING_ZERO_GRACE") or 30.0),
        drain=float(environ.get("ORCHESTRATOR_GATEWAY_DRAIN") or 30.0),
    )
