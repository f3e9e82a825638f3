"""Secrets in versions; a version is a sealed value, or refers to one outside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "secret_versions",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("(sealed IS NULL) <> (reference IS NULL)", name=op.f("secret_versions_value_check")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("secret_versions_organization_fk")),
        sa.PrimaryKeyConstraint("organization", "name", "version", name=op.f("secret_versions_pk")),
    )
    op.execute(
        "INSERT INTO secret_versions (organization, name, version, sealed, created_at) "
        "SELECT organization, name, version, sealed, updated_at FROM secrets"
    )
    op.add_column("secrets", sa.Column("latest", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE secrets SET latest = version")
    op.drop_column("secrets", "sealed")
