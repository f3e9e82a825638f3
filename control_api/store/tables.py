"""Every table. Each row carries its organization; but people may belong to many, and weeks belong to all.

The states are those of the contract, and the database checks them.

`agent` is the agent's uuid in the tables of the control API and its name in those of the journal, because an instance
knows its name only. Tables in `PARTITIONED` exist once per week (`control_api.store.partitions`).
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from control_api.store.types import Json, Moment
from domain.deployment import BuildState, DeploymentState, RevisionState
from domain.roles import Role
from orchestrator_runtime.contract.states import RunState, WaitReason

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_0_N_name)s_unique",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _text(name: str, *, optional: bool = False) -> Column[str]:
    return Column(name, Text, nullable=optional)


def _organization(*, key: bool = False) -> Column[str]:
    return Column("organization", Text, ForeignKey("organizations.id"), nullable=False, primary_key=key)


def _agent(*, key: bool = False) -> Column[str]:
    return Column("agent", Text, ForeignKey("agents.id"), nullable=False, primary_key=key)


def _count(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


def one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    """The database's copy of an enumeration."""
    listed = ", ".join(f"'{state}'" for state in states)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


# Organizations and who may do what

organizations = Table(
    "organizations",
    metadata,
    _key("id"),
    _text("name"),  # a label of hosts, so there is no other of this name
    Column("uid", Integer),  # host user id of its sandboxes
    Column("created_at", Moment, nullable=False),
    Index("organizations_name_unique", "name", unique=True),
)
people = Table(
    "people",
    metadata,
    _key("id"),
    _text("name"),
    _text("email", optional=True),  # lower case; only the first owner may have none
    Column("created_at", Moment, nullable=False),
    Index("people_email_unique", "email", unique=True),
)
members = Table(
    "members",
    metadata,
    _organization(key=True),
    Column("person", Text, ForeignKey("people.id"), primary_key=True),
    _text("role"),
    Column("created_at", Moment, nullable=False),
    one_of("role", Role),
    Index("members_person", "person"),
)
service_accounts = Table(
    "service_accounts",
    metadata,
    _key("id"),
    _organization(),
    _text("name"),
    _text("role"),
    _text("created_by"),  # a principal: id of a person or of a service account
    Column("created_at", Moment, nullable=False),
    one_of("role", Role),
    Index("service_accounts_name_unique", "organization", "name", unique=True),
)
invitations = Table(
    "invitations",
    metadata,
    _key("id"),
    _organization(),
    _text("email"),
    _text("role"),
    _text("digest"),  # SHA-256 of the token, hex
    _text("created_by"),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("accepted_at", Moment),
    Column("accepted_by", Text, ForeignKey("people.id")),
    Column("revoked_at", Moment),
    one_of("role", Role),
    Index("invitations_digest_unique", "digest", unique=True),
    Index("invitations_organization", "organization", "id"),
)
credentials = Table(
    "credentials",
    metadata,
    _key("digest"),  # SHA-256 of the token, hex
    _text("id"),
    _organization(),
    _text("principal"),  # a person who is a member, or a service account
    _text("name"),
    Column("scopes", Json),  # permissions; null: not narrowed
    _text("created_by", optional=True),  # null: the platform made it, for the home folder
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),  # written late
    Column("revoked_at", Moment),
    Index("credentials_id_unique", "organization", "id", unique=True),
    Index("credentials_principal", "organization", "principal"),
)
installation_keys = Table(
    "installation_keys",
    metadata,
    _key("name"),  # installation; tokens, former_tokens: what signs the tokens of instances
    Column("version", Integer, nullable=False),  # of the installation key
    Column("wrapped", LargeBinary, nullable=False),  # by the master key, or by the installation key
    _text("master", optional=True),  # id of the master key that wrapped it
    Column("created_at", Moment, nullable=False),
)
data_keys = Table(
    "data_keys",
    metadata,
    _organization(key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("installation", Integer, nullable=False),  # version of the installation key that wrapped it
    Column("created_at", Moment, nullable=False),
)
secrets = Table(
    "secrets",
    metadata,
    _organization(key=True),
    _key("name"),
    Column("version", Integer, nullable=False),  # the one in use
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    _count("latest"),  # highest version that there ever was
)
secret_versions = Table(
    "secret_versions",
    metadata,
    _organization(key=True),
    _key("name"),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary),
    _text("reference", optional=True),  # where the value is outside, instead
    Column("created_at", Moment, nullable=False),
    CheckConstraint("(sealed IS NULL) <> (reference IS NULL)", name="value"),
)

# Agents, from source to traffic

agents = Table(
    "agents",
    metadata,
    _key("id"),
    _organization(),
    _text("name"),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    _text("owner", optional=True),  # a principal
    Index(
        "agents_name_unique",
        "organization",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)
agent_grants = Table(
    "agent_grants",
    metadata,
    _organization(key=True),
    _agent(key=True),
    _key("principal"),
    _text("role"),
    _text("created_by"),
    Column("created_at", Moment, nullable=False),
    one_of("role", Role),
)
versions = Table(
    "versions",
    metadata,
    _organization(key=True),
    _agent(key=True),
    _key("digest"),
    _text("label"),  # semver
    _text("framework"),
    Column("manifest", Json, nullable=False),
    _text("lock", optional=True),  # digest of the lock that its environment was built from
    _text("source"),  # folder, relative to the organization's sources
    Column("created_at", Moment, nullable=False),
)
builds = Table(
    "builds",
    metadata,
    _key("id"),
    _organization(),
    _agent(),
    _text("version"),
    _text("state"),
    _text("environment", optional=True),  # digest
    Column("log", Text, nullable=False, server_default=""),
    Column("problem", Json),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    one_of("state", BuildState),
    Index("builds_version", "organization", "agent", "version"),
)
deployments = Table(
    "deployments",
    metadata,
    _key("id"),
    _organization(),
    _agent(),
    _text("version"),
    _text("build", optional=True),
    _text("revision", optional=True),
    _text("state"),
    Column("problem", Json),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    one_of("state", DeploymentState),
    Index("deployments_agent", "organization", "agent", "created_at"),
)
revisions = Table(
    "revisions",
    metadata,
    _organization(key=True),
    _key("name"),  # AGENT-00001
    _agent(),
    Column("number", Integer, nullable=False),
    _text("version"),
    _text("environment", optional=True),  # digest
    _text("state"),
    Column("problem", Json),
    Column("created_at", Moment, nullable=False),
    one_of("state", RevisionState),
    Index("revisions_number_unique", "organization", "agent", "number", unique=True),
)
traffic = Table(
    "traffic",
    metadata,
    _organization(key=True),
    _agent(key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _text("revision"),
    Column("percent", Integer, nullable=False),
    _text("tag", optional=True),
    CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
)

# The journal. No foreign keys here: every microsecond of `runs` and `run_events` is paid by every call of an agent.

OPEN = "state IN ('pending', 'running', 'waiting')"
ASLEEP = "state IN ('pending', 'waiting')"
UNUSUAL = "state IN ('pending', 'waiting', 'failed', 'cancelled')"
LEASED = "state = 'running'"

runs = Table(
    "runs",
    metadata,
    _key("organization"),
    _key("id"),
    _text("agent"),
    _text("revision"),
    _text("state"),
    _text("wait_reason", optional=True),
    Column("wait_until", Moment),  # when the sweeper acts on it; null: on the named event
    Column("epoch", Integer, nullable=False),  # fencing: grows with every lease that is granted
    Column("attempt", Integer, nullable=False),
    Column("failed_count", Integer, nullable=False),
    Column("lost_count", Integer, nullable=False),
    _text("instance", optional=True),  # who holds the lease
    Column("lease_expires_at", Moment),
    Column("deadline_at", Moment),  # of the current attempt; no lease outlives it
    Column("timeout", Double, nullable=False),  # seconds an attempt may take
    _text("session", optional=True),
    _text("key", optional=True),  # Idempotency-Key
    _text("trigger"),
    Column("background", Integer, nullable=False),  # 1: nobody waits for the answer, so retries may take their time
    Column("request", Json, nullable=False),
    Column("headers", LargeBinary),  # of the request, sealed JSON
    _text("caller", optional=True),
    _text("correlation"),
    _text("traceparent", optional=True),
    Column("cancel_requested_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("status", Integer),  # HTTP status of the answer
    Column("answer", Json),  # content type and headers of the answer
    Column("problem", Json),
    Column("usage", Json),
    Column("event_count", Integer, nullable=False),
    Column("recorded_count", Integer, nullable=False),  # calls that can be answered after a crash
    Column("batch", Integer, nullable=False),  # number of the last batch of events taken from the current attempt
    _text("partition"),  # where its events and payloads are
    one_of("state", RunState),
    one_of("wait_reason", WaitReason),
    CheckConstraint(
        "(state = 'running') = (lease_expires_at IS NOT NULL) AND (state = 'running') = (instance IS NOT NULL)",
        name="lease",
    ),
    CheckConstraint(f"({ASLEEP}) = (wait_reason IS NOT NULL)", name="waits_for_something"),
    CheckConstraint(f"({OPEN}) = (ended_at IS NULL)", name="ended"),
    Index("runs_by_agent", "organization", "agent", "id"),
    Index("runs_leased", "instance", "lease_expires_at", sqlite_where=text(LEASED), postgresql_where=text(LEASED)),
    Index("runs_asleep", "wait_reason", "wait_until", sqlite_where=text(ASLEEP), postgresql_where=text(ASLEEP)),
    Index("runs_unusual", "organization", "state", "id", sqlite_where=text(UNUSUAL), postgresql_where=text(UNUSUAL)),
    Index(
        "runs_in_session",
        "organization",
        "agent",
        "session",
        "id",
        sqlite_where=text("session IS NOT NULL"),
        postgresql_where=text("session IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)
run_events = Table(
    "run_events",
    metadata,
    _key("organization"),
    _key("run"),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _key("partition"),
    Column("at", Moment, nullable=False),
    _text("kind"),
    _text("step", optional=True),
    _text("parent", optional=True),
    _text("name", optional=True),
    _text("step_kind", optional=True),
    Column("call", Json),  # {name, digest, n}: this result answers that call after a crash
    Column("data", Json),
    Column("inline", LargeBinary),  # a small payload, sealed
    Column("payload", LargeBinary),  # address of a larger one
    sqlite_with_rowid=False,
    postgresql_partition_by="LIST (partition)",
)
payloads = Table(
    "payloads",
    metadata,
    _key("organization"),
    Column("address", LargeBinary, primary_key=True),
    _key("partition"),
    Column("sealed", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),  # of what was sealed, before compression
    postgresql_partition_by="LIST (partition)",
)
PARTITIONED = (run_events, payloads)
partitions = Table("partitions", metadata, _key("name"), Column("ends_at", Moment, nullable=False))
"""Which weeks exist. It has no organization: a week belongs to all of them."""
identities = Table(
    "identities",
    metadata,
    _key("organization"),
    _key("kind"),  # key: an Idempotency-Key
    _key("agent"),
    _key("key"),
    _text("run"),
    _text("fingerprint", optional=True),
    Column("created_at", Moment, nullable=False),
    Index("identities_age", "created_at"),
    sqlite_with_rowid=False,
)
sessions = Table(
    "sessions",
    metadata,
    _key("organization"),
    _key("agent"),
    _key("id"),
    Column("state", LargeBinary),  # sealed
    _count("runs"),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)
checkpoints = Table(
    "checkpoints",
    metadata,
    _key("organization"),
    _key("agent"),
    _key("thread"),
    _key("namespace"),
    _key("checkpoint"),
    _text("parent", optional=True),
    _text("run"),
    _text("type"),
    Column("metadata", Json, nullable=False),
    Column("projection", LargeBinary),  # sealed JSON
    Column("channels", Json, nullable=False),  # channel -> version
    Column("body", LargeBinary, nullable=False),  # sealed
    Column("created_at", Moment, nullable=False),
)
checkpoint_values = Table(
    "checkpoint_values",
    metadata,
    _key("organization"),
    _key("agent"),
    _key("thread"),
    _key("namespace"),
    _key("channel"),
    _key("version"),
    _text("form"),  # list, single, empty
    Column("elements", Json, nullable=False),  # [[type, address of the blob]]
)
checkpoint_blobs = Table(
    "checkpoint_blobs",
    metadata,
    _key("organization"),
    _key("agent"),
    _key("thread"),
    Column("address", Text, primary_key=True),  # keyed hash: an element that many versions share is stored once
    Column("body", LargeBinary, nullable=False),  # sealed
)
checkpoint_writes = Table(
    "checkpoint_writes",
    metadata,
    _key("organization"),
    _key("agent"),
    _key("thread"),
    _key("namespace"),
    _key("checkpoint"),
    _key("task"),
    Column("index", Integer, primary_key=True, autoincrement=False),
    _text("path"),
    _text("channel"),
    _text("type"),
    Column("body", LargeBinary, nullable=False),  # sealed
)
