"""Which package indexes a build uses: what the operator configured for uv or pip, then what the organization's secrets
and the agent's folder add. Pure: environments in, an environment and read-only binds out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from builders.dependencies import is_build_secret
from local.sandbox.spec import Bind

INHERITED = ("UV_INDEX_", "UV_INSECURE_HOST", "UV_HTTP_", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_EXCLUDE_NEWER")
CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
DEFAULT_HOSTS = frozenset({"pypi.org", "files.pythonhosted.org"})  # what uv uses when nothing else is configured


@dataclass(frozen=True, slots=True)
class Indexes:
    """`environ` for uv; `binds` it needs; `facts` that decide what is found (no credentials), for the input digest."""

    environ: Mapping[str, str]
    binds: tuple[Bind, ...]
    facts: tuple[str, ...]


def configure(operator: Mapping[str, str], *, secrets: Mapping[str, str], declared: Iterable[str]) -> Indexes:
    """The settings of one build. `declared` are index addresses of the agent's folder, perhaps as NAME=URL."""
    given = {**operator, **{name: value for name, value in secrets.items() if is_build_secret(name)}}
    environ = {name: value for name, value in given.items() if name.startswith(INHERITED)}
    default = _first(secrets, "UV_INDEX_URL", "PIP_INDEX_URL") or _first(
        operator, "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"
    )
    environ.pop("UV_INDEX_URL", None)  # the old name of the default index
    if default:
        environ["UV_DEFAULT_INDEX"] = default
    additional = [*declared, *_first(operator, "UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL").split()]
    if additional:
        environ["UV_INDEX"] = " ".join(additional)
    if timeout := _first(operator, "UV_HTTP_TIMEOUT", "PIP_DEFAULT_TIMEOUT"):
        environ["UV_HTTP_TIMEOUT"] = timeout
    links, binds = _find_links(_first(operator, "UV_FIND_LINKS", "PIP_FIND_LINKS"))
    if links:
        environ["UV_FIND_LINKS"] = ",".join(links)
    certificates = next((given[name] for name in CERTIFICATES if given.get(name)), SYSTEM_CERTIFICATES)
    if Path(certificates).is_file():
        environ["SSL_CERT_FILE"] = certificates
        binds.append(Bind(certificates, certificates))
    return Indexes(environ, tuple(binds), tuple(_public(address) for address in (default, *additional, *links)))


def operator_hosts(operator: Mapping[str, str]) -> frozenset[str]:
    """The hosts that the operator's own configuration names: builds may reach them wherever their addresses are."""
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
    words = " ".join(operator.get(name, "") for name in (*names, "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"))
    hosts = {urlsplit(address).hostname for address in re.findall(r"https?://[^\s,]+", words)}
    return DEFAULT_HOSTS | {host for host in hosts if host}


def _find_links(words: str) -> tuple[list[str], list[Bind]]:
    links = [link for link in re.split(r"[\s,]+", words) if link and ("://" in link or Path(link).is_dir())]
    return links, [Bind(link, link) for link in links if "://" not in link]


def _first(environ: Mapping[str, str], *names: str) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def _public(address: str) -> str:
    return re.sub(r"(://)[^/@\s]+@", r"\1", address)
