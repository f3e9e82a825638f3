"""The table of roles and permissions, and what follows from it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from domain.roles import EVERYWHERE, MAKES_AGENTS, OF_INSTALLATION, ON_AGENT, PERMISSIONS, PUBLIC, TABLE, UNSCOPED, Role


@pytest.mark.parametrize("table", [EVERYWHERE, ON_AGENT])
def test_each_role_may_do_what_the_one_before_it_may_and_more(table: dict[Role, frozenset[str]]) -> None:
    roles = [role for role in Role if table is EVERYWHERE or role is not Role.OWNER]
    for lower, higher in pairwise(roles):
        assert table[lower] < table[higher]


def test_the_owner_may_do_everything_and_nobody_else() -> None:
    assert EVERYWHERE[Role.OWNER] == PERMISSIONS
    assert all(EVERYWHERE[role] < PERMISSIONS for role in Role if role is not Role.OWNER)


def test_a_viewer_changes_nothing_but_their_own_keys() -> None:
    assert {name for name in EVERYWHERE[Role.VIEWER] if not name.endswith(":read")} == {"keys:write"}


def test_a_grant_never_needs_more_than_the_role_in_the_whole_organization() -> None:
    for name, least in TABLE.items():
        assert least.on_agent is None or name in EVERYWHERE[least.everywhere] & ON_AGENT[least.on_agent]
        if least.on_agent is not None:
            assert ON_AGENT[least.everywhere] >= {name}


def test_what_is_public_or_of_the_installation_or_makes_agents_is_told_apart() -> None:
    assert not PUBLIC & PERMISSIONS
    assert PERMISSIONS > OF_INSTALLATION
    assert EVERYWHERE[Role.VIEWER] >= UNSCOPED
    assert {role for role in Role if MAKES_AGENTS in EVERYWHERE[role]} == {Role.DEVELOPER, Role.ADMIN, Role.OWNER}


def test_every_permission_says_what_it_is_for() -> None:
    assert all(least.meaning and name.count(":") == 1 for name, least in TABLE.items())
