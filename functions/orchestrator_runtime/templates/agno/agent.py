"""Answers questions about a CSV table: the model writes SQL, SQLite answers it, the model says what the answer means.

The table comes with the request: as its body, as a file of a form, or as the member `csv` of a JSON object. A session
remembers it, so that questions after the first one need not bring it again.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing

from agno.agent import Agent
from agno.media import File
from agno.models.openai import OpenAIChat
from agno.run import RunContext

ROWS = 200  # as many rows of an answer as the model gets
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
READ_ONLY = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


def describe(run_context: RunContext, files: Sequence[File] | None = None) -> str:
    """Describe the table `data`: its columns, the number of its rows, and the first of them."""
    with closing(load(table(run_context, files))) as database:
        found = database.execute("SELECT * FROM data LIMIT 3")
        columns, rows = [column[0] for column in found.description], found.fetchall()
        count = database.execute("SELECT count(*) FROM data").fetchone()[0]
    return json.dumps({"columns": columns, "rows": count, "first": rows}, ensure_ascii=False)


def query(sql: str, run_context: RunContext, files: Sequence[File] | None = None) -> str:
    """Ask the table `data` a question.

    Args:
        sql: One SELECT in SQLite's dialect.
    """
    print(f"query: {sql}")
    with closing(load(table(run_context, files))) as database:
        database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READ_ONLY else sqlite3.SQLITE_DENY)
        try:
            found = database.execute(sql)
        except sqlite3.Error as error:
            return f"SQLite refused it: {error}"  # the model may correct itself
        columns = [column[0] for column in found.description]
        return json.dumps({"columns": columns, "rows": found.fetchmany(ROWS)}, ensure_ascii=False)


def table(run_context: RunContext, files: Sequence[File] | None) -> str:
    """The CSV text of this request, or else of the session."""
    state = run_context.session_state
    assert state is not None
    sent = (run_context.dependencies or {}).get("csv")
    for file in files or ():
        sent = bytes(file.content).decode("utf-8-sig")
    if sent is not None:
        state["csv"] = sent
    if "csv" not in state:
        raise ValueError("there is no table: send one as the body, as a file, or as the member csv")
    return str(state["csv"])


def load(text: str) -> sqlite3.Connection:
    """A database with the table `data`; what looks like a number is one. The first line names the columns."""
    delimiter = max(",;\t|", key=text.partition("\n")[0].count)
    header, *rows = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if line]
    names = [name.strip().replace('"', "") or f"column {number}" for number, name in enumerate(header, 1)]
    quoted, places = ", ".join(f'"{name}"' for name in names), ", ".join("?" for _ in names)
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE TABLE data ({quoted})")
    filled = ([value(cell) for cell in row[: len(names)]] + [None] * (len(names) - len(row)) for row in rows)
    database.executemany(f"INSERT INTO data VALUES ({places})", filled)  # noqa: S608 - only question marks
    return database


def value(cell: str) -> str | int | float | None:
    cell = cell.strip()
    if NUMBER.fullmatch(cell):
        return float(cell) if "." in cell else int(cell)
    return cell or None


agent = Agent(
    name="Analyst",
    model=OpenAIChat(id=os.environ.get("MODEL", "gpt-5-mini")),  # OPENAI_API_KEY and OPENAI_BASE_URL say where
    instructions=[
        "You answer questions about the table `data`. Call `describe` first, then `query` as often as you need.",
        "Say only what queries have shown. Answer in two or three sentences, with the figures that matter.",
    ],
    tools=[describe, query],
    send_media_to_model=False,  # the table is for the tools; of its rows the model sees what it asks for
    add_history_to_context=True,
    session_state={},
)
