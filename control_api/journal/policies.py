"""What a revision's manifest says about its runs. Revisions never change, so each is read once."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from control_api.store.database import ReadSession
from control_api.store.tables import revisions, versions
from domain.manifest import Retries, Timeouts

LONGEST_DELAY = 3600.0  # seconds between two attempts
DEFAULT_RETRIES = Retries()


@dataclass(frozen=True, slots=True)
class Policy:
    """Retries of the agent's own errors, and how long it gets to obey a cancel (seconds)."""

    retries: Retries = DEFAULT_RETRIES
    grace: float = 30.0

    def retry_delay(self, failures: int, *, background: bool) -> float | None:
        """Seconds until the attempt after the `failures`-th failure; None if there is none."""
        if failures > self.retries.limit or not (background or self.retries.synchronous):
            return None
        factor = 2 ** (failures - 1) if self.retries.backoff == "exponential" else failures
        return min(self.retries.delay * factor, LONGEST_DELAY)


class Policies:
    """Policies by (organization, revision)."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Policy] = {}

    def of(self, session: ReadSession, organization: str, revision: str) -> Policy:
        """The revision's policy; the default for a revision that nobody knows."""
        known = self._known.get((organization, revision))
        if known is not None:
            return known
        query = (
            select(versions.c.manifest)
            .join_from(
                revisions,
                versions,
                (versions.c.organization == revisions.c.organization)
                & (versions.c.agent == revisions.c.agent)
                & (versions.c.digest == revisions.c.version),
            )
            .where(revisions.c.organization == organization, revisions.c.name == revision)
        )
        manifest = session.execute(query).scalar_one_or_none()
        if manifest is None:
            return Policy()
        timeouts = Timeouts.model_validate(manifest.get("timeouts", {}))
        policy = Policy(Retries.model_validate(manifest.get("retries", {})), timeouts.grace)
        self._known[organization, revision] = policy
        return policy
