"""What all callers together may have the gateway keep of bodies that nobody takes yet.

That is calls that wait for an instance, and bodies that are collected for the server (Prefer: respond-async). One body
is small beside it; many at once would take the memory that everything else needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator_runtime.contract.errors import Unavailable


@dataclass(slots=True)
class BodyBudget:
    """`held` of `limit` bytes are in use."""

    limit: int
    held: int = 0


@dataclass(slots=True)
class BodyAccount:
    """What one call keeps; to be released when somebody has taken it, or nobody will."""

    budget: BodyBudget
    held: int = 0

    def hold(self, size: int) -> None:
        """Raises `Unavailable` (`bodies_full`)."""
        if self.budget.held + size > self.budget.limit:
            raise Unavailable(
                "The bodies of waiting calls take all the memory they may", code="bodies_full", hint="Try again later."
            )
        self.budget.held += size
        self.held += size

    def release(self) -> None:
        """May come more than once."""
        self.budget.held -= self.held
        self.held = 0
