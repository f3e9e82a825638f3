"""Waits for a PostgreSQL that is just starting, and says soon and in plain words when there is none.

Called before anything is started or opened. SQLite is a file: nobody has to be waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from control_api.store.engines import short_lived
from orchestrator_runtime.contract.errors import Unavailable

PATIENCE = 10.0  # seconds: a server that is starting, as after a boot, takes no connections for a while
PAUSE = 1.0


def wait_until_reachable(
    url: str, *, pause: Callable[[float], None] = time.sleep, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Returns once the database takes connections. Raises `Unavailable` (`database_unreachable`) with the reason."""
    if make_url(url).get_backend_name() == "sqlite":
        return
    began = monotonic()
    with short_lived(url, writing=True) as engine:
        while True:
            try:
                engine.connect().close()
            except OperationalError as error:
                # The driver knows no codes for connections that it did not get: a wrong password waits as long.
                if monotonic() - began + PAUSE > PATIENCE:
                    raise _unreachable(url, error) from error
                pause(PAUSE)
            else:
                return


def _unreachable(url: str, error: OperationalError) -> Unavailable:
    shown = make_url(url).render_as_string(hide_password=True)
    reason = " ".join(str(error.orig).split())
    return Unavailable(
        f"The database {shown} takes no connection: {reason}",
        code="database_unreachable",
        hint="Start PostgreSQL or correct ORCHESTRATOR_DATABASE; without it the database is a file in the home folder.",
    )
