"""The gateway's settings: read once from ORCHESTRATOR_* by `__main__`, then passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from domain.home import Home
from local.gateway.addresses import Network, read_networks

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
    body_rate: float = 100.0  # bytes a second that a body brings at least, over each `body_timeout`
    read_timeout: float = 60.0  # for a caller to read enough of its answer that more can be sent
    connections: int = 20_000  # all together; a call takes two descriptors of 65,536
    address_connections: int = 512  # of one address; 0: no limit, as in the rates below
    address_rate: float = 200.0  # requests a second
    credential_rate: float = 1000.0
    organization_rate: float = 4000.0
    exempt: tuple[Network, ...] = read_networks("127.0.0.0/8 ::1")  # from the four limits above
    wrong_tokens: int = 10  # of one address, or with one beginning, that cost nothing
    wrong_token_pause: float = 10.0  # until the next one after them
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
        limits=_limits(environ),
    )


def _limits(environ: Mapping[str, str]) -> Limits:
    usual = Limits()

    def rate(name: str) -> float:
        return float(environ.get(f"ORCHESTRATOR_LIMITS_{name.upper()}") or getattr(usual, name))

    exempt = environ.get("ORCHESTRATOR_LIMITS_EXEMPT")
    return Limits(
        address_connections=int(rate("address_connections")),
        address_rate=rate("address_rate"),
        credential_rate=rate("credential_rate"),
        organization_rate=rate("organization_rate"),
        exempt=read_networks(exempt) if exempt else usual.exempt,
    )
