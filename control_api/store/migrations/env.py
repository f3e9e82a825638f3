"""What Alembic runs: the migrations on the connection that `control_api.store.migrate` has opened and will commit."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
