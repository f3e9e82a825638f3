"""Databases as earlier programs left them."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from control_api.store import migrate
from control_api.store.engines import open_engine


def at_first(url: str) -> None:
    """An installation of the first revision: an organization, its owner's token and a narrower one, and an agent."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    engine = open_engine(url, writing=True)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in (
            "INSERT INTO organizations VALUES ('o', 'default', NULL, 0)",
            """INSERT INTO credentials VALUES ('d', 'c-1', 'o', 'owner', '["*"]', 1, 2)""",
            """INSERT INTO credentials VALUES ('e', 'c-2', 'o', 'ci', '["runs:read"]', 1, NULL)""",
            "INSERT INTO agents VALUES ('a', 'o', 'triage', 0, 0, NULL)",
        ):
            connection.execute(text(statement))
    engine.dispose()
