"""What the reconciler does next, and whom an agent's traffic goes to: the pure part."""

from __future__ import annotations

import pytest

from control_api.reconciler.plan import (
    Action,
    Activate,
    Build,
    CreateRevision,
    Fail,
    Probe,
    RevisionRecord,
    Situation,
    all_to,
    next_action,
    one_before,
    served,
    traffic_after,
)
from domain.deployment import DeploymentState, RevisionState, RevisionStatus, TrafficTarget

PROBLEM = {"code": "entrypoint_not_found"}
READY = RevisionStatus("a-00001", RevisionState.READY)
BROKEN = RevisionStatus("a-00001", RevisionState.FAILED, problem=PROBLEM)
BUILDING, STARTING = DeploymentState.BUILDING, DeploymentState.STARTING


@pytest.mark.parametrize(
    ("situation", "action"),
    [
        (Situation(BUILDING, has_environment=False), Build()),
        (Situation(BUILDING, has_environment=False, build_problem=PROBLEM), Fail(PROBLEM)),
        (Situation(BUILDING, has_environment=True), CreateRevision()),
        (Situation(STARTING, has_environment=True), Probe()),
        (Situation(STARTING, has_environment=True, probe=READY), Activate()),
        (Situation(STARTING, has_environment=True, probe=BROKEN), Fail(PROBLEM)),
        (Situation(DeploymentState.READY, has_environment=True), None),
        (Situation(DeploymentState.FAILED, has_environment=True), None),
    ],
)
def test_every_situation_has_one_next_action(situation: Situation, action: Action | None) -> None:
    assert next_action(situation) == action


def test_a_new_revision_gets_all_traffic() -> None:
    assert traffic_after([TrafficTarget("a-00001", 100)], "a-00002") == (TrafficTarget("a-00002", 100),)


def test_the_first_revision_gets_all_traffic() -> None:
    assert traffic_after([], "a-00001") == (TrafficTarget("a-00001", 100),)


def test_tags_stay_where_they_are() -> None:
    before = [TrafficTarget("a-00001", 0, "stable"), TrafficTarget("a-00002", 100)]
    assert traffic_after(before, "a-00003") == (TrafficTarget("a-00001", 0, "stable"), TrafficTarget("a-00003", 100))


def test_a_split_that_somebody_set_stays() -> None:
    before = (TrafficTarget("a-00001", 90), TrafficTarget("a-00002", 10))
    assert traffic_after(before, "a-00003") == before


def revision(number: int, state: RevisionState = RevisionState.READY) -> RevisionRecord:
    return RevisionRecord(f"a-{number:05d}", number, state)


def test_the_newest_are_kept_for_a_rollback_and_older_ones_retired() -> None:
    revisions = [revision(number) for number in range(1, 6)]
    traffic = [TrafficTarget("a-00005", 100)]
    assert served(revisions, traffic, with_open_runs=frozenset(), kept=2) == (
        ["a-00003", "a-00004", "a-00005"],
        ["a-00001", "a-00002"],
    )


def test_a_revision_with_open_runs_is_kept() -> None:
    revisions = [revision(1), revision(2, RevisionState.RETIRED), revision(3), revision(4)]
    traffic = [TrafficTarget("a-00004", 100)]
    keep, retire = served(revisions, traffic, with_open_runs=frozenset({"a-00001", "a-00002"}), kept=1)
    assert keep == ["a-00001", "a-00002", "a-00003", "a-00004"]
    assert retire == []


def test_failed_revisions_are_not_served_and_deploying_ones_are() -> None:
    revisions = [revision(1, RevisionState.FAILED), revision(2, RevisionState.DEPLOYING)]
    assert served(revisions, [], with_open_runs=frozenset(), kept=1) == (["a-00002"], [])


def test_a_rollback_takes_all_calls_and_leaves_tags_where_they_are() -> None:
    before = [TrafficTarget("a-00002", 90, "next"), TrafficTarget("a-00001", 10, "stable")]
    assert all_to(before, "a-00001") == (TrafficTarget("a-00002", 0, "next"), TrafficTarget("a-00001", 100, "stable"))


def test_a_rollback_goes_to_the_newest_ready_one_before_all_that_serve() -> None:
    revisions = [revision(1), revision(2), revision(3, RevisionState.FAILED), revision(4), revision(5)]
    split = [TrafficTarget("a-00005", 50), TrafficTarget("a-00004", 50), TrafficTarget("a-00001", 0, "old")]
    assert one_before(revisions, split) == "a-00002"


def test_there_may_be_nothing_to_roll_back_to() -> None:
    assert one_before([revision(1), revision(2)], [TrafficTarget("a-00001", 100)]) is None
    assert one_before([], []) is None
