"""The header fields of a run's request, sealed, so that later attempts have them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("headers", sa.LargeBinary(), nullable=True))
