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


class MasterKey(Protocol):
    """Wraps the one key of the installation, and never leaves where it is kept. Blocks: call it in a thread."""

    @property
    def id(self) -> str:
        """Which key it is; stored beside what it wrapped, and no secret."""
        ...

    def wrap(self, content: bytes, context: str) -> bytes:
        """Encrypt another key, bound to `context`. Raises `Unavailable` while the key cannot be reached."""
        ...

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """What was wrapped. Raises `Conflict` (`wrong_key`) if another key, or for another context, wrapped it."""
        ...


class MasterKeys(Protocol):
    """Where master keys are kept: a file, the environment, Vault. Blocks, and raises as its keys do."""

    def current(self) -> MasterKey:
        """The one that is to wrap. Raises `Conflict`: `master_key_missing`, `master_key_invalid`."""
        ...

    def known(self) -> Sequence[MasterKey]:
        """Every key that can be had, the current one first: a database may have been wrapped by another one."""
        ...

    def renew(self) -> MasterKey:
        """A new key, not current before `settle`. Raises `Conflict` (`master_key_outside`) if others make keys."""
        ...

    def settle(self, key: str) -> None:
        """The database is wrapped by the key with this id: it is the current one, and what else was made is not."""
        ...
