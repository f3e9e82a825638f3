"""Asks each part that the server cannot work without."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text

from control_api.health.schemas import Condition, HealthView
from control_api.store.database import Database, ReadSession
from orchestrator_runtime.contract.errors import Unavailable


class HealthService:
    """`gateway` and `supervisor` say whether they are connected."""

    def __init__(self, *, database: Database, gateway: Callable[[], bool], supervisor: Callable[[], bool]) -> None:
        self._database = database
        self._gateway = gateway
        self._supervisor = supervisor

    async def look(self) -> HealthView:
        """The condition of every part. Raises `Unavailable` (`unhealthy`) with the same members if one is missing."""
        parts: dict[str, Condition] = {
            "database": "ok" if await self._readable() else "unavailable",
            "gateway": "ok" if self._gateway() else "unavailable",
            "supervisor": "ok" if self._supervisor() else "unavailable",
        }
        missing = [name for name, condition in parts.items() if condition != "ok"]
        if missing:
            raise Unavailable(
                f"Not available: {', '.join(missing)}",
                code="unhealthy",
                hint="Parts that ended are started again by themselves; see platform.log of the home folder.",
                **parts,
            )
        return HealthView(status="ok", **parts)

    async def _readable(self) -> bool:
        def ask(session: ReadSession) -> None:
            session.execute(text("SELECT 1"))

        try:
            await self._database.read(ask)
        except Exception:  # noqa: BLE001 - whatever keeps it from answering is the answer
            return False
        return True
