"""The manifest `agent.yaml`, version 1: one model, from which the JSON schema for editors is made.

`builders.manifest` reads it from YAML and turns what this model refuses into file, line, rule and suggestion.
Sizes are written as in Kubernetes (`512Mi`, `0.5`, `500m`), durations as `30s`, `5m`, `1h`.

A rule that concerns one part of a value raises `ContradictionError` with that part's path, so that its line is found.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
LEAST_MEMORY = 16 * MEBIBYTE  # an interpreter that has imported nothing but the runtime already has half of that
SIZE_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
SEMVER = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"
ENTRYPOINT = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
SIZE = r"^\d+(\.\d+)?([KMG]i?)?$"
DURATION = r"^\d+(\.\d+)?(ms|s|m|h)$"
CPU = r"^\d+(\.\d+)?m?$"
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST = rf"^((\*\.)?{LABEL}(\.{LABEL})*|\[[0-9A-Fa-f:.]+\])(:[1-9]\d{{0,4}})?$"
RESERVED_VARIABLES = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})  # Knative's runtime contract
RESERVED_PREFIX = "ORCHESTRATOR_"


class ContradictionError(PydanticCustomError):
    """A refused value: what is wrong, and the path, below where the rule stands, of the part that is."""

    def __new__(cls, message: str, *path: str | int) -> ContradictionError:
        return super().__new__(cls, "contradiction", "{message}", {"message": message, "path": path})


def parse_size(value: Any) -> Any:
    """`512Mi` as bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]i?)?", value, re.ASCII)
        if match is None:
            raise ValueError("a size is a number with K, M, G, Ki, Mi or Gi, such as 512Mi")
        return int(float(match[1]) * SIZE_UNITS[match[2] or ""])
    return value


def parse_duration(value: Any) -> Any:
    """`5m` as seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value, re.ASCII)
        if match is None:
            raise ValueError("a duration is a number with ms, s, m or h, such as 30s")
        return float(match[1]) * DURATION_UNITS[match[2]]
    return value


def parse_cpu(value: Any) -> Any:
    """`500m` as cores."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", value, re.ASCII)
        if match is None:
            raise ValueError("cpu is a number of cores, such as 0.5 or 500m")
        return float(match[1]) / (1000 if match[2] else 1)
    return value


def _check_variable(name: str) -> None:
    if not re.match(VARIABLE, name, re.ASCII):
        raise ContradictionError(f"{name!r} is no name of an environment variable", name)
    if name in RESERVED_VARIABLES or name.startswith(RESERVED_PREFIX):
        raise ContradictionError(f"{name} is set by the platform and cannot be set here", name)


def _variables(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        _check_variable(name)
    return value


def _secret_names(value: list[str]) -> list[str]:
    for index, name in enumerate(value):
        if name in RESERVED_VARIABLES or name.startswith(RESERVED_PREFIX):
            raise ContradictionError(f"{name} is set by the platform and cannot be a secret", index)
        if name in value[:index]:
            raise ContradictionError(f"{name} is listed twice", index)
    return value


def _host_list(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("an empty list of hosts is written as `none`")
    return value


def _network_kind(value: Any) -> str:
    return "hosts" if isinstance(value, list) else "word"


Size = Annotated[
    int,
    Field(gt=0, examples=["512Mi"]),
    BeforeValidator(parse_size, json_schema_input_type=int | Annotated[str, Field(pattern=SIZE)]),
]
Memory = Annotated[
    int,
    Field(ge=LEAST_MEMORY, le=1024 * GIBIBYTE),
    BeforeValidator(parse_size, json_schema_input_type=int | Annotated[str, Field(pattern=SIZE)]),
]
Duration = Annotated[
    float,
    Field(gt=0, examples=["30s"]),
    BeforeValidator(parse_duration, json_schema_input_type=float | Annotated[str, Field(pattern=DURATION)]),
]
Cpu = Annotated[
    float,
    Field(gt=0, examples=["500m"]),
    BeforeValidator(parse_cpu, json_schema_input_type=float | Annotated[str, Field(pattern=CPU)]),
]
Host = Annotated[str, Field(pattern=HOST, max_length=253), AfterValidator(str.lower)]
Network = Annotated[
    Annotated[Literal["internet", "none"], Tag("word")]
    | Annotated[list[Host], AfterValidator(_host_list), Tag("hosts")],
    Discriminator(_network_kind),
]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Framework(StrEnum):
    PLAIN = "plain"
    LANGGRAPH = "langgraph"
    CREWAI = "crewai"
    AGNO = "agno"


class Access(StrEnum):
    """Who may call the agent. `organization`: credentials of its organization; `agents`: only its agents, not yet."""

    ORGANIZATION = "organization"
    AGENTS = "agents"
    PUBLIC = "public"


class Metric(StrEnum):
    CONCURRENCY = "concurrency"
    RPS = "rps"


DEFAULT_MEMORY = {
    Framework.PLAIN: 256 * MEBIBYTE,
    Framework.LANGGRAPH: 512 * MEBIBYTE,
    Framework.AGNO: 512 * MEBIBYTE,
    Framework.CREWAI: 1024 * MEBIBYTE,
}


class Resources(Part):
    cpu: Cpu = Field(1.0, ge=0.01, le=64, description="Cores an instance may use.")
    memory: Memory | None = Field(
        None, examples=["512Mi"], description="Memory of an instance; by default what its framework needs."
    )
    gpu: int = Field(0, ge=0, le=8, description="GPUs an instance needs; the embedded engine gives none.")
    scratch: Size = Field(256 * MEBIBYTE, ge=MEBIBYTE, le=1024 * GIBIBYTE, description="Size of the private /tmp.")


class Scale(Part):
    min: int = Field(0, ge=0, le=1000, description="Instances that are always kept.")
    max: int = Field(20, ge=1, le=1000, description="Instances at most.")
    metric: Metric = Field(Metric.CONCURRENCY, description="What the autoscaler holds at its target.")
    target: float | None = Field(None, ge=0.01, description="Per instance; by default 100 (concurrency) or 200 (rps).")
    target_utilization: int = Field(70, ge=1, le=100, description="Per cent of the target that is aimed at.")
    concurrency_limit: int = Field(100, ge=0, le=1000, description="Requests an instance gets at once; 0: no limit.")
    window: Duration = Field(60.0, ge=6, le=3600, description="Stable window of the autoscaler.")

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.min > self.max:
            raise ContradictionError("scale.min must not be greater than scale.max", "min")
        if self.window != int(self.window):
            raise ContradictionError("scale.window is in whole seconds", "window")
        return self


class Timeouts(Part):
    run: Duration = Field(300.0, le=86400, description="One attempt of a run.")
    start: Duration = Field(60.0, le=600, description="Loading the agent, until it is ready.")
    grace: Duration = Field(30.0, le=600, description="Between a cancel or drain and the kill.")


class Retries(Part):
    """Of an agent's own errors; a lost executor always gets a new attempt (at most `lost_limit`)."""

    limit: int = Field(0, ge=0, le=100, description="Further attempts after the agent failed.")
    backoff: Literal["exponential", "linear"] = Field("exponential", description="How the delay grows.")
    delay: Duration = Field(1.0, le=3600, description="Before the first retry.")
    synchronous: bool = Field(False, description="Retry while a synchronous caller waits, too.")


class Trigger(Part):
    http: dict[str, Any] | None = Field(None, description="Calls over HTTP; every agent has this one.")


class Manifest(Part):
    """What an agent is and needs."""

    api_version: Literal[1] = Field(1, description="Version of this format.")
    name: str = Field(pattern=NAME, description="Lower case letters, digits and dashes.", examples=["issue-triage"])
    version: str = Field("0.1.0", pattern=SEMVER, description="Version label (semver).", examples=["1.2.0"])
    description: str = Field("", max_length=1000, description="One sentence for people who look for an agent.")
    framework: Framework = Field(Framework.PLAIN, description="What the entrypoint is an object of.")
    entrypoint: str = Field(
        pattern=ENTRYPOINT, description="module:attribute, such as agent:graph.", examples=["agent:graph"]
    )
    resources: Resources = Field(Resources(), description="What one instance may use.")
    scale: Scale = Field(Scale(), description="How many instances there are.")
    timeouts: Timeouts = Field(Timeouts(), description="How long things may take.")
    retries: Retries = Field(Retries(), description="What happens after the agent's own errors.")
    payload_limit: Size = Field(10 * MEBIBYTE, le=1024 * MEBIBYTE, description="Largest body of a request.")
    access: Access = Field(Access.ORGANIZATION, description="Who may call the agent.")
    network: Network = Field(
        "internet",
        description="What the agent may reach: internet, none, or a list of hosts. Hosts of a list are reached by the "
        "proxy (HTTP_PROXY, SOCKS5) only, because an address cannot be held to a name.",
        examples=["internet"],
    )
    env: Annotated[dict[str, str], AfterValidator(_variables)] = Field(
        default_factory=dict,
        description="Environment variables. Never put a secret here.",
        examples=[{"MODEL": "small"}],
    )
    secrets: Annotated[list[Annotated[str, Field(pattern=VARIABLE)]], AfterValidator(_secret_names)] = Field(
        default_factory=list,
        description="Secrets of the organization that become environment variables.",
        examples=[["OPENAI_API_KEY"]],
    )
    triggers: list[Trigger] = Field(default_factory=list, description="What starts a run, besides calls over HTTP.")

    @model_validator(mode="after")
    def _one_source_per_variable(self) -> Manifest:
        for index, name in enumerate(self.secrets):
            if name in self.env:
                raise ContradictionError(f"{name} is also given in env", "secrets", index)
        return self

    @property
    def memory_bytes(self) -> int:
        return self.resources.memory or DEFAULT_MEMORY[self.framework]
