"""Decides how an agent's calls are split: by its owner, or back to what served before. Pure but for the two loads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from control_api.agents import rows
from control_api.agents.schemas import TrafficTargetBody
from control_api.reconciler.moves import move_revision
from control_api.reconciler.plan import RevisionRecord, all_to, one_before
from control_api.reconciler.steps import set_traffic
from control_api.revisions import repository as revisions_of
from control_api.store.database import WriteSession
from domain.deployment import RevisionState, TrafficTarget
from orchestrator_runtime.contract.errors import Conflict, Unprocessable


def split(
    session: WriteSession, organization: str, name: str, targets: Sequence[TrafficTargetBody], *, now: datetime
) -> None:
    """Split the agent's calls as `targets` say.

    Raises `NotFound`, `Unprocessable` (`traffic_invalid`, `revision_unknown`) or `Conflict` (`revision_not_ready`).
    """
    agent = rows.require(session, organization, name)
    _check(targets)
    wanted = [TrafficTarget(target.revision, target.percent, target.tag) for target in targets]
    _ready(session, organization, agent, [target.revision for target in wanted])
    set_traffic(session, organization, agent, wanted, now=now)


def roll_back(session: WriteSession, organization: str, name: str, revision: str | None, *, now: datetime) -> None:
    """Give every call to `revision`, or to the newest ready one before what serves now.

    Raises as `split` does, and `Conflict` (`nothing_before`).
    """
    agent = rows.require(session, organization, name)
    traffic = revisions_of.traffic_of(session, organization, [agent])[agent]
    stored = revisions_of.current(session, organization, [agent])
    records = [RevisionRecord(one.name, one.number, one.state) for one in stored]
    chosen = revision or one_before(records, traffic)
    if chosen is None:
        raise Conflict(
            f"{name} has no ready revision before the one that serves",
            code="nothing_before",
            hint=f"`orchestrator describe {name}` lists its revisions.",
        )
    _ready(session, organization, agent, [chosen])
    set_traffic(session, organization, agent, all_to(traffic, chosen), now=now)


def _check(targets: Sequence[TrafficTargetBody]) -> None:
    total = sum(target.percent for target in targets)
    tags = [target.tag for target in targets if target.tag]
    names = [target.revision for target in targets]
    wrong = [
        (total != 100, f"The percentages sum to {total} and not to 100"),
        (len(set(tags)) < len(tags), "A tag is given twice"),
        (len(set(names)) < len(names), "A revision is listed twice"),
    ]
    for is_wrong, detail in wrong:
        if is_wrong:
            raise Unprocessable(detail, code="traffic_invalid", hint="List each revision once; all shares sum to 100.")


def _ready(session: WriteSession, organization: str, agent: str, names: Sequence[str]) -> None:
    """See to it that these revisions can get calls. A retired one can again: its environment is still there."""
    for name in names:
        found = revisions_of.find(session, organization, agent, name)
        if found is None:
            raise Unprocessable(
                f"The agent has no revision {name}", code="revision_unknown", hint="`orchestrator describe` lists them."
            )
        if found.state is RevisionState.RETIRED:
            move_revision(session, organization, name, RevisionState.READY)
        elif found.state is not RevisionState.READY:
            raise Conflict(
                f"{name} is {found.state.value} and cannot get calls",
                code="revision_not_ready",
                hint="Choose one that is ready.",
            )
