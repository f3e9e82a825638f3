"""`rollback` and `traffic`: which revisions answer."""

from __future__ import annotations

from collections.abc import Sequence

import click

from control_api.cli.agents import traffic_words
from control_api.cli.client import segment
from control_api.cli.command import Cli, agent_argument, output_option, pass_cli


@click.command()
@agent_argument
@click.argument("revision", required=False)
@output_option
@pass_cli
def rollback(cli: Cli, name: str, revision: str | None) -> None:
    """Give all calls to an earlier revision.

    REVISION is its number or whole name; by default it is the newest ready one before what serves.
    """
    body = {} if revision is None else {"revision": revision_name(name, revision)}
    agent = cli.connect().post(f"/agents/{segment(name)}/rollback", body)
    cli.terminal.data(agent, lambda: f"{name} now serves {traffic_words(agent['traffic'])}")


@click.command()
@agent_argument
@click.argument("shares", nargs=-1, metavar="[REVISION=PERCENT]…")
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG=REVISION", help="Give a revision a name by which it can be called."
)
@output_option
@pass_cli
def traffic(cli: Cli, name: str, shares: Sequence[str], tags: Sequence[str]) -> None:
    """Show or set how calls are split between revisions.

    A revision is given by its number or its whole name. The percentages sum to 100.

    \b
    Examples:
      orchestrator traffic triage
      orchestrator traffic triage 1=90 2=10 --tag canary=2
    """
    client = cli.connect()
    if shares or tags:
        split = dict(_pair(name, share, "REVISION=PERCENT") for share in shares)
        if not shares:  # tags alone leave the split as it is
            current = client.get(f"/agents/{segment(name)}")["traffic"]
            split = {target["revision"]: target["percent"] for target in current}
        targets = traffic_targets(name, split, tags)
        agent = client.put(f"/agents/{segment(name)}/traffic", {"targets": targets})
    else:
        agent = client.get(f"/agents/{segment(name)}")
    cli.terminal.data(agent, lambda: f"{name} serves {traffic_words(agent['traffic'])}")


def traffic_targets(name: str, split: dict[str, int], tags: Sequence[str]) -> list[dict[str, object]]:
    """The body of the traffic endpoint. A tag on a revision without a share gives it one of 0 %."""
    tagged: dict[str, str] = {}
    for tag in tags:
        label, separator, revision = tag.partition("=")
        if not separator or not label or not revision:
            raise click.UsageError(f"{tag!r} is not TAG=REVISION")
        tagged[revision_name(name, revision)] = label
    return [
        {"revision": revision, "percent": split.get(revision, 0), "tag": tagged.get(revision)}
        for revision in {**split, **dict.fromkeys(tagged)}
    ]


def revision_name(agent: str, given: str) -> str:
    """A revision's whole name, also from its number: `2` is AGENT-00002."""
    return f"{agent}-{int(given):05d}" if given.isascii() and given.isdigit() else given


def _pair(name: str, share: str, form: str) -> tuple[str, int]:
    revision, _, percent = share.rpartition("=")
    if not revision or not percent.isascii() or not percent.isdigit():
        raise click.UsageError(f"{share!r} is not {form}")
    return revision_name(name, revision), int(percent)
