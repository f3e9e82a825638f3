"""Keys in versions, wrapped by an installation key that the first start makes: it has the master key, we have not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("master", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("installation_keys_pk")),
    )
    op.create_table(
        "data_keys",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("installation", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["organization"], ["organizations.id"], name=op.f("data_keys_organization_fk")),
        sa.PrimaryKeyConstraint("organization", "version", name=op.f("data_keys_pk")),
    )
    op.execute(
        "INSERT INTO data_keys (organization, version, wrapped, installation, created_at) "
        "SELECT organization, 1, wrapped, 0, created_at FROM organization_keys JOIN organizations ON id = organization"
    )
    op.drop_table("organization_keys")
