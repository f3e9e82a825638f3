"""A sealed value in every column that holds sealed ones, made from the tables; and all of them read back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Double, Integer, LargeBinary, insert, select

from control_api.encryption.sealed import SealedColumn, sealed_columns
from control_api.store import partitions
from control_api.store.database import ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import organizations
from control_api.store.types import Json, Moment
from control_api.store.upsert import insert_missing
from tests.fakes.manual_clock import START

WEEK = "2026w01"
POSSIBLE = {"runs": {"state": "succeeded", "ended_at": START}}
"""What rows of a table have to say to be taken."""


def fill(session: WriteSession, keys: OrganizationKeys, organization: str, *, rows: int = 3) -> None:
    """Make the organization, and `rows` rows in each table with sealed columns."""
    insert_missing(session, organizations, {"id": organization, "name": organization, "created_at": START})
    keys.create(session, organization)
    partitions.create(session, WEEK)
    key = keys.of(session, organization)
    columns = sealed_columns(session)
    for table in {id(column.table): column.table for column in columns}.values():
        sealed = [column for column in columns if column.table is table]
        for number in range(rows):
            row = {column.name: _plain(column, organization, number) for column in table.columns}
            row |= POSSIBLE.get(table.name, {})
            for column in sealed:
                row[column.column] = key.seal(content(column, number), column.context(row))
            session.execute(insert(table).values(row))


def content(column: SealedColumn, number: int) -> bytes:
    """What was sealed; every second one is large enough to be compressed."""
    return f"canary of {column.table.name}.{column.column} {number}".encode() * (100 if number % 2 else 1)


def read(session: ReadSession, keys: OrganizationKeys, organization: str) -> dict[str, list[bytes]]:
    """Every value, opened, by table and column."""
    key = keys.of(session, organization)
    found: dict[str, list[bytes]] = {}
    for column in sealed_columns(session):
        query = select(column.table).where(column.table.c.organization == organization).order_by(*column.key)
        found[f"{column.table.name}.{column.column}"] = [
            key.open(bytes(row[column.column]), column.context(dict(row))) for row in session.execute(query).mappings()
        ]
    return found


def expected(session: ReadSession, *, rows: int = 3) -> dict[str, list[bytes]]:
    return {
        f"{column.table.name}.{column.column}": [content(column, number) for number in range(rows)]
        for column in sealed_columns(session)
    }


def sealed_values(session: ReadSession, organization: str) -> list[bytes]:
    """Every value, as it is stored."""
    return [
        bytes(sealed)
        for column in sealed_columns(session)
        for sealed in session.execute(
            select(column.table.c[column.column]).where(column.table.c.organization == organization)
        ).scalars()
    ]


def _plain(column: Column[Any], organization: str, number: int) -> Any:
    if column.name == "organization":
        return organization
    if column.nullable:
        return None
    if isinstance(column.type, Moment):
        return START
    if isinstance(column.type, Json):
        return {}
    if isinstance(column.type, Integer | Double):
        return number
    if isinstance(column.type, LargeBinary):
        return bytes([number]) * 32
    return WEEK if column.name == "partition" else f"{column.name} {number}"
