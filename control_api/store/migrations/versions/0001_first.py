"""The first shape of the database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from control_api.store.transitions import guard

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

GUARDED = {
    "runs": [
        ("failed", "waiting"),
        ("pending", "cancelled"),
        ("pending", "failed"),
        ("pending", "running"),
        ("pending", "waiting"),
        ("running", "cancelled"),
        ("running", "failed"),
        ("running", "succeeded"),
        ("running", "waiting"),
        ("waiting", "cancelled"),
        ("waiting", "failed"),
        ("waiting", "running"),
    ],
    "builds": [
        ("pending", "failed"),
        ("pending", "running"),
        ("running", "failed"),
        ("running", "pending"),
        ("running", "succeeded"),
    ],
    "deployments": [("building", "failed"), ("building", "starting"), ("starting", "failed"), ("starting", "ready")],
    "revisions": [
        ("deploying", "failed"),
        ("deploying", "ready"),
        ("failed", "retired"),
        ("ready", "retired"),
        ("retired", "ready"),
    ],
}


def upgrade() -> None:
    tables()
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        partitioned_parents()
    else:
        statistics()
    for table, moves in GUARDED.items():
        for statement in guard(table, moves, dialect=dialect):
            op.execute(statement)


def tables() -> None:
    op.create_table(
        "checkpoint_blobs",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "agent", "thread", "address", name=op.f("checkpoint_blobs_pk")),
    )
    op.create_table(
        "checkpoint_values",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("elements", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "organization", "agent", "thread", "namespace", "channel", "version", name=op.f("checkpoint_values_pk")
        ),
    )
    op.create_table(
        "checkpoint_writes",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "organization",
            "agent",
            "thread",
            "namespace",
            "checkpoint",
            "task",
            "index",
            name=op.f("checkpoint_writes_pk"),
        ),
    )
    op.create_table(
        "checkpoints",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("projection", sa.LargeBinary(), nullable=True),
        sa.Column("channels", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "organization", "agent", "thread", "namespace", "checkpoint", name=op.f("checkpoints_pk")
        ),
    )
    op.create_table(
        "identities",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "kind", "agent", "key", name=op.f("identities_pk")),
        sqlite_with_rowid=False,
    )
    op.create_index("identities_age", "identities", ["created_at"], unique=False)
    op.create_table(
        "organizations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uid", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("organizations_pk")),
    )
    op.create_table(
        "partitions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("partitions_pk")),
    )
    op.create_table(
        "runs",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("wait_reason", sa.Text(), nullable=True),
        sa.Column("wait_until", sa.Double(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failed_count", sa.Integer(), nullable=False),
        sa.Column("lost_count", sa.Integer(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("timeout", sa.Double(), nullable=False),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("background", sa.Integer(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=True),
        sa.Column("correlation", sa.Text(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("usage", sa.Text(), nullable=True),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("recorded_count", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(state = 'running') = (lease_expires_at IS NOT NULL) AND (state = 'running') = (instance IS NOT NULL)",
            name=op.f("runs_lease_check"),
        ),
        sa.CheckConstraint(
            "(state IN ('pending', 'running', 'waiting')) = (ended_at IS NULL)", name=op.f("runs_ended_check")
        ),
        sa.CheckConstraint(
            "(state IN ('pending', 'waiting')) = (wait_reason IS NOT NULL)", name=op.f("runs_waits_for_something_check")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')",
            name=op.f("runs_state_check"),
        ),
        sa.CheckConstraint("wait_reason IN ('dispatch', 'retry', 'session')", name=op.f("runs_wait_reason_check")),
        sa.PrimaryKeyConstraint("organization", "id", name=op.f("runs_pk")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "runs_asleep",
        "runs",
        ["wait_reason", "wait_until"],
        unique=False,
        sqlite_where=sa.text("state IN ('pending', 'waiting')"),
        postgresql_where=sa.text("state IN ('pending', 'waiting')"),
    )
    op.create_index("runs_by_agent", "runs", ["organization", "agent", "id"], unique=False)
    op.create_index(
        "runs_in_session",
        "runs",
        ["organization", "agent", "session", "id"],
        unique=False,
        sqlite_where=sa.text("session IS NOT NULL"),
        postgresql_where=sa.text("session IS NOT NULL"),
    )
    op.create_index(
        "runs_leased",
        "runs",
        ["instance", "lease_expires_at"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "runs_unusual",
        "runs",
        ["organization", "state", "id"],
        unique=False,
        sqlite_where=sa.text("state IN ('pending', 'waiting', 'failed', 'cancelled')"),
        postgresql_where=sa.text("state IN ('pending', 'waiting', 'failed', 'cancelled')"),
    )
    op.create_table(
        "sessions",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=True),
        sa.Column("runs", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "agent", "id", name=op.f("sessions_pk")),
    )
    op.create_table(
        "agents",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("agents_organization_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("agents_pk")),
    )
    op.create_index(
        "agents_name_unique",
        "agents",
        ["organization", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "credentials",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("credentials_organization_fk")),
        sa.PrimaryKeyConstraint("digest", name=op.f("credentials_pk")),
    )
    op.create_table(
        "organization_keys",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("organization_keys_organization_fk")),
        sa.PrimaryKeyConstraint("organization", name=op.f("organization_keys_pk")),
    )
    op.create_table(
        "secrets",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("secrets_organization_fk")),
        sa.PrimaryKeyConstraint("organization", "name", name=op.f("secrets_pk")),
    )
    op.create_table(
        "builds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("log", sa.Text(), server_default="", nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'running', 'succeeded', 'failed')", name=op.f("builds_state_check")),
        sa.ForeignKeyConstraint(["agent"], ["agents.id"], name=op.f("builds_agent_fk")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("builds_organization_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("builds_pk")),
    )
    op.create_index("builds_version", "builds", ["organization", "agent", "version"], unique=False)
    op.create_table(
        "deployments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("build", sa.Text(), nullable=True),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "state IN ('building', 'starting', 'ready', 'failed')", name=op.f("deployments_state_check")
        ),
        sa.ForeignKeyConstraint(["agent"], ["agents.id"], name=op.f("deployments_agent_fk")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("deployments_organization_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("deployments_pk")),
    )
    op.create_index("deployments_agent", "deployments", ["organization", "agent", "created_at"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('deploying', 'ready', 'failed', 'retired')", name=op.f("revisions_state_check")),
        sa.ForeignKeyConstraint(["agent"], ["agents.id"], name=op.f("revisions_agent_fk")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("revisions_organization_fk")),
        sa.PrimaryKeyConstraint("organization", "name", name=op.f("revisions_pk")),
    )
    op.create_index("revisions_number_unique", "revisions", ["organization", "agent", "number"], unique=True)
    op.create_table(
        "traffic",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name=op.f("traffic_percent_check")),
        sa.ForeignKeyConstraint(["agent"], ["agents.id"], name=op.f("traffic_agent_fk")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("traffic_organization_fk")),
        sa.PrimaryKeyConstraint("organization", "agent", "position", name=op.f("traffic_pk")),
    )
    op.create_table(
        "versions",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("framework", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("lock", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["agent"], ["agents.id"], name=op.f("versions_agent_fk")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("versions_organization_fk")),
        sa.PrimaryKeyConstraint("organization", "agent", "digest", name=op.f("versions_pk")),
    )


def statistics() -> None:
    """Tell SQLite what a large installation is like.

    It analyses nothing by itself, and without statistics it takes an organization for about ten runs, which it may as
    well scan. Numbers: rows of the index, then how many share its first column, its first two, and so on.
    """
    op.execute("ANALYZE")
    for index, numbers in (
        ("runs", "1000000 1000000 1"),
        ("runs_by_agent", "1000000 1000000 20000 1"),
        ("runs_in_session", "300000 300000 6000 10 1"),
        ("runs_unusual", "20000 20000 10000 1"),
        ("runs_leased", "1000 20 1"),
        ("runs_asleep", "1000 300 1"),
    ):
        op.execute(f"INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('runs', '{index}', '{numbers}')")  # noqa: S608 - our own words


def partitioned_parents() -> None:
    """On SQLite there are only the weeks themselves."""
    op.create_table(
        "payloads",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "address", "partition", name=op.f("payloads_pk")),
        postgresql_partition_by="LIST (partition)",
    )
    op.create_table(
        "run_events",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("step_kind", sa.Text(), nullable=True),
        sa.Column("call", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("organization", "run", "seq", "partition", name=op.f("run_events_pk")),
        postgresql_partition_by="LIST (partition)",
        sqlite_with_rowid=False,
    )
