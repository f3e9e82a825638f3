"""What a conversation leaves behind: one sealed state per session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from control_api.journal.ledger import Ledger
from control_api.journal.operations import Fenced, Outcome
from control_api.journal.policies import Policies
from control_api.store.database import ReadSession
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import sessions
from control_api.store.upsert import upsert
from orchestrator_runtime.contract.wire import Message


@dataclass(slots=True)
class PutSession(Fenced):
    """Replace the session's state."""

    session: str
    state: bytes

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.held(ledger)
        key = ledger.keys.of(ledger.session, run.organization)
        moment = datetime.fromtimestamp(ledger.now, UTC)
        changes = {"state": key.seal(self.state, session_context(run.agent, self.session)), "updated_at": moment}
        named = {"organization": run.organization, "agent": run.agent, "id": self.session}
        upsert(ledger.session, sessions, {**named, **changes, "created_at": moment}, changes)
        return None


def read_state(
    session: ReadSession, *, keys: OrganizationKeys, organization: str, agent: str, name: str
) -> bytes | None:
    """The state of a session; None if it has none."""
    query = select(sessions.c.state).where(
        sessions.c.organization == organization, sessions.c.agent == agent, sessions.c.id == name
    )
    sealed = session.execute(query).scalar_one_or_none()
    return None if sealed is None else keys.of(session, organization).open(sealed, session_context(agent, name))


def get(session: ReadSession, *, keys: OrganizationKeys, organization: str, agent: str, name: str) -> Message:
    """Reply of `session.get`: found; body: the state."""
    state = read_state(session, keys=keys, organization=organization, agent=agent, name=name)
    return Message({"found": state is not None}, state or b"")


def session_context(agent: str, session: str) -> bytes:
    return f"session/{agent}/{session}".encode()
