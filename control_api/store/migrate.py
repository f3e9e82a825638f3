"""Brings a database to the shape this program knows: from nothing, or from an older one after a backup.

Called by `bootstrap` before anything opens the database. Alembic is run as a library: there is no ini file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from control_api.store.backup import back_up
from control_api.store.engines import short_lived
from control_api.store.keys import InstallationKey
from orchestrator_runtime.contract.errors import Conflict

logger = logging.getLogger("migrate")


def _no_backup() -> InstallationKey:
    raise AssertionError("only for a database that is new")


def migrate(url: str, *, backups: Path, now: datetime, seal: Callable[[], InstallationKey] = _no_backup) -> Path | None:
    """Upgrade the database at `url` to the newest revision; returns the backup that was made first, if one was.

    `seal` gives the key that the backup is sealed with; it is only called if there is one to make.

    Raises `Conflict` (`database_newer`) if a newer program has changed it.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    with short_lived(url, writing=True) as engine:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        if current == scripts.get_current_head():
            return None
        if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
            raise Conflict(
                f"The database was changed by a newer version of Orchestrator (revision {current})",
                code="database_newer",
                hint=f"Update this checkout, or restore a backup that this version made, from {backups}.",
            )
        saved = back_up(url, backups, installation=seal(), now=now) if current is not None else None
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        logger.info("The database is at revision %s", scripts.get_current_head())
        return saved
