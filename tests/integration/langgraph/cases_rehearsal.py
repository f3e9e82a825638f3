"""A zygote rehearses a graph before it forks."""

from __future__ import annotations

import threading

from orchestrator_runtime import rehearsal


def test_a_graph_answers_and_no_thread_stays() -> None:
    assert rehearsal.rehearse("langgraph")
    assert threading.active_count() == 1
