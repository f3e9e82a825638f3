"""The ports: what the control plane needs from the world. Each has a fake in tests/fakes and a conformance suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from domain.deployment import BuildRequest, DesiredAgent, Environment, RevisionStatus


class Platform(Protocol):
    """Runs agents. `local.platform` on this machine; later `knative` on a cluster."""

    async def deploy(self, agent: DesiredAgent) -> None:
        """Serve the agent as described; idempotent, returns before instances exist."""
        ...

    async def probe(self, organization: str, revision: str) -> RevisionStatus:
        """Start one instance of a revision that is being deployed and say whether it became ready."""
        ...

    async def describe(self, organization: str, agent: str) -> list[RevisionStatus]:
        """What is observed of the agent's revisions right now."""
        ...

    async def list(self) -> list[tuple[str, str]]:
        """Every (organization, agent) that the platform serves."""
        ...

    async def remove(self, organization: str, agent: str) -> None:
        """Stop serving the agent and end its instances after their grace period; idempotent."""
        ...

    def instances(self, organization: str, agent: str) -> Sequence[Mapping[str, Any]]:
        """The agent's instances that live now: [{instance, revision, state, started_at, pid}]."""
        ...

    def logs(self, organization: str, revision: str, *, follow: bool) -> AsyncIterator[bytes]:
        """JSON lines that instances of the revision wrote, oldest first."""
        ...


class Builder(Protocol):
    """Makes environments, in a sandbox: code of a user or of a package never gets at what is shared."""

    async def build(self, request: BuildRequest, *, log: Callable[[str], None]) -> Environment:
        """The environment that the folder's dependencies need, built unless it exists; one build per lock at a time.

        `log` is called with each line as it comes. Raises `Problem`: `dependencies_unresolvable` (in the resolver's own
        words), `dependencies_invalid`, `python_unavailable`, `framework_missing`, `build_failed`, `build_timeout`,
        `disk_full`, and `index_unreachable`, after which another try may help. Cancelling it ends the build; nothing
        half-made is ever used.
        """
        ...
