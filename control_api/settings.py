"""The server's settings: read once from ORCHESTRATOR_* by `bootstrap`, then passed. Nothing else reads the environment.

A variable is named after group and field: `telemetry.otlp_endpoint` is ORCHESTRATOR_TELEMETRY_OTLP_ENDPOINT; the
fields of `Settings` itself have no group.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from domain.home import Home
from local.gateway.addresses import read_networks
from orchestrator_runtime.contract.errors import BadInput

PREFIX = "ORCHESTRATOR_"
MEBIBYTE = 1024 * 1024


def _words(value: Any) -> Any:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
"""Separated by commas or spaces."""


def _database(url: str) -> str:
    if url.partition("://")[0] not in DATABASES:
        raise ValueError(f"a database's URL begins with {' or '.join(f'{name}://' for name in DATABASES)}")
    return url


DATABASES = ("sqlite", "postgresql+psycopg")
DatabaseUrl = Annotated[str, AfterValidator(_database)]


def _address(host: str) -> str:
    return str(ip_address(host))


def _networks(text: str) -> str:
    read_networks(text)
    return text


Address = Annotated[str, AfterValidator(_address)]
Networks = Annotated[str, AfterValidator(_networks)]


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Group):
    certificate: Path | None = Field(
        None,
        description="PEM file of the certificate, its intermediate ones after it. With it, the port speaks TLS only.",
    )
    key: Path | None = Field(None, description="PEM file of its private key, without a passphrase.")


class Limits(Group):
    """What the gateway lets callers do. The defaults are those of `local.gateway.settings.Limits`."""

    address_connections: int = Field(512, ge=0, description="Connections of one address. 0, here and below: no limit.")
    address_rate: float = Field(
        200.0, ge=0, description="Requests a second of one address; up to five seconds' worth at once, here and below."
    )
    credential_rate: float = Field(1000.0, ge=0, description="Requests a second with one credential.")
    organization_rate: float = Field(4000.0, ge=0, description="Requests a second with all credentials of one.")
    exempt: Networks = Field(
        "127.0.0.0/8 ::1",
        description="Networks whose callers none of these limits holds for; `none` for none. On the machine itself are "
        "its owner's own programs, or a proxy with everybody's calls.",
    )


class Telemetry(Group):
    otlp_endpoint: str | None = Field(
        None, description="Base URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318. Without one, no spans."
    )
    trace_sample_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of new traces that is recorded; 10 % bounds the cost in production."
    )


class Egress(Group):
    allow: Words = Field(
        (), description="host:port of private or loopback services that agents may reach, such as a local model server."
    )


class Scaling(Group):
    zero_grace: float = Field(
        30.0, ge=0, description="Seconds an idle last instance is kept after its window; 30 is Knative's default."
    )


class Runs(Group):
    event_poll: float = Field(
        0.2, gt=0, description="Seconds between looks for new events of a run that somebody follows; bounds the delay."
    )
    keep_alive: float = Field(
        15.0, gt=0, description="Seconds of silence after which a live stream sends a comment; proxies close idle ones."
    )


class Deployments(Group):
    kept_revisions: int = Field(
        10, ge=1, description="Ready revisions without traffic that an agent keeps, for a rollback without a build."
    )
    source_limit: int = Field(
        64 * MEBIBYTE, gt=0, description="Largest upload of an agent's folder, in bytes: code, not models or data."
    )


class Encryption(Group):
    source: Literal["file", "environment", "vault"] = Field(
        "file", description="Where the master key is: in the file master.key, in ORCHESTRATOR_ENCRYPTION_KEY, in Vault."
    )
    key: SecretStr | None = Field(
        None, description="The master key, base64 of 32 bytes. Whoever may read the server's environment has it."
    )
    previous_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_words)] = Field(
        (), description="Former master keys: what they wrapped is wrapped anew by the next start."
    )


class VaultSettings(Group):
    address: str | None = Field(None, description="URL of a HashiCorp Vault, such as https://vault.example.com:8200.")
    token: SecretStr | None = Field(None, description="Its token; a file is better, because it can be renewed.")
    token_file: Path | None = Field(None, description="File with Vault's token, read again for each call.")
    namespace: str | None = Field(None, description="Namespace of Vault Enterprise.")
    ca_file: Path | None = Field(None, description="Certificates that Vault's is verified by, instead of the system's.")
    timeout: float = Field(5.0, gt=0, description="Seconds for one try; there are at most four.")
    transit_mount: str = Field("transit", description="Where the transit engine is mounted.")
    transit_key: str = Field("orchestrator", description="Name of the key (aes256-gcm96) that is the master key.")
    kv_mount: str = Field("secret", description="Where the key/value engine (version 2) is mounted.")
    kv_folder: str = Field(
        "orchestrator", description="Folder of values that secrets may refer to; below it, one per organization's ID."
    )


class Settings(Group):
    home: Path = Field(description="The home folder; everything that must survive is in it.")
    database: DatabaseUrl | None = Field(
        None,
        description="SQLAlchemy URL (sqlite or postgresql+psycopg); by default the SQLite file in the home folder.",
    )
    host: Address = Field("127.0.0.1", description="Address to serve at; any other than the loopback's needs TLS.")
    port: int = Field(4100, ge=0, le=65535, description="Port to serve at; the next free one if taken.")
    log_level: Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"] = Field("INFO", description="Lowest level logged.")
    tls: Tls = Tls()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()
    egress: Egress = Egress()
    scaling: Scaling = Scaling()
    runs: Runs = Runs()
    deployments: Deployments = Deployments()
    encryption: Encryption = Encryption()
    vault: VaultSettings = VaultSettings()

    @property
    def layout(self) -> Home:
        return Home(self.home)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.layout.database}"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` gives. Raises `BadInput` (`settings_invalid`) naming the variable that is wrong.

    Variables that name no field are left alone: supervisor and gateway have their own under the same prefix.
    """
    values: dict[str, Any] = {"home": Home.from_environment(environ).root}
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            found = {inner: environ.get(f"{PREFIX}{name}_{inner}".upper()) for inner in group.model_fields}
            values[name] = {inner: value for inner, value in found.items() if value}
        elif name != "home" and environ.get(f"{PREFIX}{name}".upper()):
            values[name] = environ[f"{PREFIX}{name}".upper()]
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        variable = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise BadInput(
            f"{variable}: {first['msg']}",
            code="settings_invalid",
            hint="Correct the variable or unset it; its default is in control_api/settings.py.",
        ) from error
