"""`manifest`: the format of agent.yaml, for editors and for people."""

from __future__ import annotations

import json

import click

from control_api.cli.command import output_option


@click.group()
def manifest() -> None:
    """Print the format of agent.yaml."""


@manifest.command()
@output_option
def schema() -> None:
    """Print the JSON schema of agent.yaml.

    Editors complete and check the file with it.
    """
    from builders.manifest import json_schema  # pydantic is slow to import, and only this command needs it

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
