"""`backup` and `restore`: the database as one file.

A backup of the database holds everything but the deployed folders and the master key, which alone opens it: on another
machine it needs those of the same home folder (docs/guides/operating.md).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from control_api.cli.command import Cli, confirm, output_option, pass_cli, yes_option
from control_api.cli.process import running_pid
from orchestrator_runtime.contract.errors import Conflict


@click.command()
@output_option
@pass_cli
def backup(cli: Cli) -> None:
    """Back the database up while the platform goes on working.

    It is encrypted, and worthless without the master key (master.key of the home folder, by default): keep that, too,
    in another place.
    """
    made = cli.connect().post("/backups")
    cli.terminal.data(made, f"Wrote {made['path']}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@yes_option
@output_option
@pass_cli
def restore(cli: Cli, file: Path, yes: bool) -> None:
    """Replace the database by the backup FILE.

    The platform must be down. What was there before is backed up first.
    """
    if running_pid(cli.home) is not None:
        raise Conflict(
            "The platform is running, and a database in use cannot be replaced",
            code="still_running",
            hint="Stop it with `orchestrator down`, then restore.",
        )
    confirm(f"Replace the database of {cli.home.root} by {file}?", yes=yes)
    # SQLAlchemy and pydantic are slow to import, and only this command works on the database itself.
    from control_api.encryption.sources import master_keys
    from control_api.settings import read_settings
    from control_api.store.restore import restore as restore_file

    cli.home.make()
    settings = read_settings({**cli.environ, "ORCHESTRATOR_HOME": str(cli.home.root)})
    url = settings.database_url
    masters = master_keys(settings, is_new=False)
    before = restore_file(url, file, masters=masters, kept=cli.home.backups, now=datetime.now(UTC))
    kept = f"; what was there before is in {before}" if before else ""
    cli.terminal.data(
        {"restored": str(file), "before": str(before) if before else None},
        f"Restored {file}{kept}. Start again with `orchestrator up`",
    )
