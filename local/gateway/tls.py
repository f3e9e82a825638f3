"""Whether the one port speaks TLS, with which files, and under which address it is called.

`orchestrator up`, the supervisor and the gateway read the same two files (`certificates.py`): the first two to refuse
them with a reason before anything starts, the gateway to serve with them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from orchestrator_runtime.contract.errors import BadInput

CERTIFICATE = "ORCHESTRATOR_TLS_CERTIFICATE"
KEY = "ORCHESTRATOR_TLS_KEY"


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files: the certificate with its intermediate ones after it, and its private key."""

    certificate: Path
    key: Path

    def state(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file is written or replaced. Raises `OSError`."""
        found = (self.certificate.stat(), self.key.stat())
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that may be served, and the context that serves it. `names`: hosts and addresses it is for."""

    context: ssl.SSLContext
    names: tuple[str, ...]
    expires: datetime


def files_of(environ: Mapping[str, str]) -> Files | None:
    """The files that the environment names; None without any. Raises `BadInput` (`tls_invalid`) for one alone."""
    certificate, key = environ.get(CERTIFICATE), environ.get(KEY)
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise invalid(CERTIFICATE if key else KEY, "it is not set, but the other one of the two is")
    return Files(Path(certificate), Path(key))


def serving(environ: Mapping[str, str], *, host: str, now: datetime) -> Certificate | None:
    """The certificate for a gateway that listens at `host`; None for plain HTTP, which the loopback alone may have.

    Raises `BadInput` (`tls_invalid`, `tls_required`).
    """
    files = files_of(environ)
    if files is not None:
        from local.gateway.certificates import load  # cryptography is slow to import, and only TLS needs it

        return load(files, now=now)
    if not ip_address(host).is_loopback:
        raise BadInput(
            f"ORCHESTRATOR_HOST: {host} can be reached from elsewhere, and there is no certificate",
            code="tls_required",
            hint=f"Set {CERTIFICATE} and {KEY}, or serve on 127.0.0.1 behind a proxy with TLS.",
        )
    return None


def invalid(variable: str, reason: str) -> BadInput:
    """What is wrong with a file that a variable names."""
    return BadInput(
        f"{variable}: {reason}",
        code="tls_invalid",
        hint="Correct the file or the variable; docs/guides/operating.md says what they hold.",
    )


def address_of(certificate: Certificate | None, *, host: str, port: int) -> str:
    """The URL of a gateway at `host`: under a name that its certificate is for, if there is one that can be called."""
    bound = ip_address(host)
    if bound.is_unspecified:
        bound = ip_address("127.0.0.1" if bound.version == 4 else "::1")
    if certificate is None:
        return f"http://{_in_url(str(bound))}:{port}"
    names = [name for name in certificate.names if not name.startswith("*")]
    best = next((name for name in (str(bound), "localhost", *names) if name in names), str(bound))
    return f"https://{_in_url(best)}:{port}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
