"""A database that is there, one that takes no connections yet, and one that is not there; over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from control_api.store.engines import CONNECT_TIMEOUT
from control_api.store.reachable import PATIENCE, PAUSE, wait_until_reachable
from orchestrator_runtime.contract.errors import Unavailable
from tests.integration.postgres import fresh_database


def never(seconds: float) -> None:
    raise AssertionError("there is nothing to wait for")


def test_what_is_there_is_not_waited_for(database_url: str) -> None:
    wait_until_reachable(database_url, pause=never)


def test_what_takes_no_connections_yet_is_waited_for(postgres_template: Callable[[], str]) -> None:
    server, _, there = postgres_template().rpartition("/")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            fresh_database(f"{server}/{there}", f"{there}_late")

    wait_until_reachable(f"{server}/{there}_late", pause=pause)
    assert pauses == [PAUSE] * 3


def test_what_is_not_there_is_given_up_soon_with_the_reason() -> None:
    now = 0.0

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    with socket.socket() as bound:  # and never listens
        bound.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://me:hunter22@127.0.0.1:{bound.getsockname()[1]}/agents"
        with pytest.raises(Unavailable) as caught:
            wait_until_reachable(url, pause=pause, monotonic=lambda: now)
    assert caught.value.code == "database_unreachable"
    assert "refused" in caught.value.detail
    assert "hunter22" not in caught.value.detail
    assert now == PATIENCE
    assert float(CONNECT_TIMEOUT) < PATIENCE, "so that a host that says nothing is given up as soon"
