"""People, members, invitations, service accounts, API keys with scopes and an end, owners of agents, and grants.

What there was belongs to one person from now on: the owner of the organization that it is in.
"""

from __future__ import annotations

import json
import time
from typing import Any

import sqlalchemy as sa
from alembic import op

from orchestrator_runtime.contract.ids import uuid7

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROLES = "role IN ('viewer', 'operator', 'developer', 'admin', 'owner')"


def upgrade() -> None:
    op.create_index("organizations_name_unique", "organizations", ["name"], unique=True)
    people_and_members()
    service_accounts_and_invitations()
    op.add_column("agents", sa.Column("owner", sa.Text(), nullable=True))
    op.create_table(
        "agent_grants",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(ROLES, name=op.f("agent_grants_role_check")),
        sa.ForeignKeyConstraint(["agent"], ["agents.id"], name=op.f("agent_grants_agent_fk")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("agent_grants_organization_fk")),
        sa.PrimaryKeyConstraint("organization", "agent", "principal", name=op.f("agent_grants_pk")),
    )
    owners = make_owners()
    credentials(owners)


def people_and_members() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("people_pk")),
    )
    op.create_index("people_email_unique", "people", ["email"], unique=True)
    op.create_table(
        "members",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(ROLES, name=op.f("members_role_check")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("members_organization_fk")),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("members_person_fk")),
        sa.PrimaryKeyConstraint("organization", "person", name=op.f("members_pk")),
    )
    op.create_index("members_person", "members", ["person"], unique=False)


def service_accounts_and_invitations() -> None:
    op.create_table(
        "service_accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(ROLES, name=op.f("service_accounts_role_check")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("service_accounts_organization_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("service_accounts_pk")),
    )
    op.create_index("service_accounts_name_unique", "service_accounts", ["organization", "name"], unique=True)
    op.create_table(
        "invitations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("accepted_at", sa.Double(), nullable=True),
        sa.Column("accepted_by", sa.Text(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint(ROLES, name=op.f("invitations_role_check")),
        sa.ForeignKeyConstraint(["accepted_by"], ["people.id"], name=op.f("invitations_accepted_by_fk")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("invitations_organization_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("invitations_pk")),
    )
    op.create_index("invitations_digest_unique", "invitations", ["digest"], unique=True)
    op.create_index("invitations_organization", "invitations", ["organization", "id"], unique=False)


def make_owners() -> dict[str, str]:
    """Organization -> the person who owns it and its agents from now on."""
    connection = op.get_bind()
    owners: dict[str, str] = {}
    for organization in connection.execute(sa.text("SELECT id FROM organizations")).scalars().all():
        owners[organization] = person = uuid7()
        values = {"organization": organization, "person": person, "now": time.time()}
        for statement in (
            "INSERT INTO people (id, name, created_at) VALUES (:person, 'owner', :now)",
            "INSERT INTO members (organization, person, role, created_at) "
            "VALUES (:organization, :person, 'owner', :now)",
            "UPDATE agents SET owner = :person WHERE organization = :organization",
        ):
            connection.execute(sa.text(statement), values)
    return owners


def credentials(owners: dict[str, str]) -> None:
    """The table is made anew: SQLite cannot add a column that must have a value."""
    connection = op.get_bind()
    known = connection.execute(sa.text("SELECT * FROM credentials")).mappings().all()
    op.drop_table("credentials")
    made = op.create_table(
        "credentials",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("credentials_organization_fk")),
        sa.PrimaryKeyConstraint("digest", name=op.f("credentials_pk")),
    )
    op.create_index("credentials_id_unique", "credentials", ["organization", "id"], unique=True)
    op.create_index("credentials_principal", "credentials", ["organization", "principal"], unique=False)
    rows: list[dict[str, Any]] = [
        {
            **{name: row[name] for name in ("digest", "id", "organization", "name", "created_at", "last_used_at")},
            "principal": owners[row["organization"]],
            "scopes": None if "*" in json.loads(row["permissions"]) else row["permissions"],
            "created_by": None if row["name"] == "owner" else owners[row["organization"]],  # None: of the home folder
        }
        for row in known
    ]
    if rows:
        op.bulk_insert(made, rows)
