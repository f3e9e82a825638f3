"""People and service accounts by what people call them; the API knows ids only."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from control_api.cli.client import Client
from control_api.cli.command import F
from domain.roles import Role

ROLES = tuple(role.value for role in Role)


def role_argument(*roles: str) -> Callable[[F], F]:
    return click.argument("role", type=click.Choice(roles or ROLES))


def member_id(client: Client, given: str) -> str:
    """The id of the member with this id, e-mail address or name."""
    return given if _is_id(given) else _one(client.pages("/members")[0], given)


def account_id(client: Client, given: str) -> str:
    """The id of the service account with this id or name."""
    return given if _is_id(given) else _one(client.pages("/service-accounts")[0], given)


def principal_id(client: Client, given: str) -> str:
    """The id of a member or a service account."""
    if _is_id(given):
        return given
    everybody = client.pages("/members")[0] + client.pages("/service-accounts")[0]
    return _one(everybody, given)


def principal_words(principal: dict[str, Any] | None) -> str:
    if principal is None:
        return ""
    return str(principal.get("name") or principal["id"])


def in_days(days: int | None) -> str | None:
    """The moment so many days from now, as the API takes it."""
    return None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()


def day(moment: str | None) -> str:
    """The date of an ISO time."""
    return (moment or "")[:10]


def _is_id(given: str) -> bool:
    try:
        uuid.UUID(given)
    except ValueError:  # then it is a name
        return False
    return True


def _one(found: list[dict[str, Any]], given: str) -> str:
    wanted = given.lower()
    ids = [one["id"] for one in found if wanted in {(one.get("email") or "").lower(), one["name"].lower()}]
    if len(ids) != 1:
        several = f"There are {len(ids)} with the name {given}; say which by its id."
        raise click.UsageError(
            several if ids else f"Nobody here is called {given}: neither by e-mail address nor name."
        )
    return str(ids[0])
