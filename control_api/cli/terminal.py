"""What commands print: data on stdout, as text or as JSON, and everything else (progress, notes, errors) on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from orchestrator_runtime.contract.errors import Problem


@dataclass(slots=True)
class Terminal:
    """`output` is text or json. In JSON, stdout carries one document, or one per line where the data keep coming."""

    output: str = "text"
    verbose: bool = False

    @property
    def json(self) -> bool:
        return self.output == "json"

    def data(self, value: Any, text: str | Callable[[], str]) -> None:
        """Print a result: `value` in JSON, else `text`."""
        if self.json:
            click.echo(json.dumps(value, ensure_ascii=False))
            return
        shown = text if isinstance(text, str) else text()
        if shown:
            click.echo(shown)

    def page(self, found: tuple[list[Any], str | None], text: Callable[[list[Any]], str]) -> None:
        """Print what `Client.pages` found: in JSON with the cursor of what follows, else as `text` shows the items."""
        items, following = found
        self.data({"items": items, "next": following}, lambda: text(items))

    def note(self, text: str, *, dim: bool = False) -> None:
        """Say what is going on; never part of the data."""
        click.secho(text, err=True, dim=dim or None)

    def problem(self, problem: Problem) -> None:
        """Say what went wrong and what to do next."""
        if self.json:
            click.echo(json.dumps(problem.document(), ensure_ascii=False), err=True)
            return
        mistakes = problem.extra.get("mistakes", ())
        if len(mistakes) > 1 or problem.code != "manifest_invalid":  # the only one in a manifest is the error itself
            for mistake in mistakes:
                click.echo(mistake_line(mistake), err=True)
        click.echo(f"{click.style('error:', fg='red', bold=True)} {problem.detail} ({problem.code})", err=True)
        if problem.hint:
            click.echo(f"  → {problem.hint}", err=True)

    @property
    def interactive(self) -> bool:
        """Whether a person reads stdout."""
        return sys.stdout.isatty()


def mistake_line(mistake: dict[str, Any]) -> str:
    """`file:line: rule – message → what to do`, which editors can jump to; of a request `field: message`."""
    if "file" not in mistake:
        return f"{mistake.get('field') or mistake.get('in')}: {mistake.get('message')}"
    suggestion = mistake.get("suggestion")
    todo = f" → {suggestion}" if suggestion else ""
    return f"{mistake['file']}:{mistake.get('line')}: {mistake.get('rule')} – {mistake.get('message')}{todo}"


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> str:
    """Columns as wide as what is in them; `empty` is said when there are no rows."""
    cells = [["–" if cell is None or cell == "" else str(cell) for cell in row] for row in rows]
    if not cells:
        return empty
    widths = [max(len(row[column]) for row in [list(headings), *cells]) for column in range(len(headings))]
    lines = [[heading.upper() for heading in headings], *cells]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )


def fields(pairs: Iterable[tuple[str, Any]]) -> str:
    """`name  value` lines; what has no value is left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def ago(moment: str | None, *, now: datetime | None = None) -> str:
    """An ISO time as `12 s ago`."""
    if not moment:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def duration(started: str | None, ended: str | None) -> str:
    """How long something took, from two ISO times; empty while it goes on."""
    if not started or not ended:
        return ""
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
