"""`invoke`: calls an agent as any HTTP client would, and prints what it answers."""

from __future__ import annotations

import base64
import json
import mimetypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from control_api.cli.client import Answer, Client, checked, lines_of, problem_of, segment, target
from control_api.cli.command import Cli, agent_argument, output_option, pass_cli
from control_api.cli.events import EVENT_STREAM, read_events
from control_api.cli.terminal import Terminal
from orchestrator_runtime.contract import headers as names
from orchestrator_runtime.contract.errors import PROBLEM_CONTENT_TYPE, BadInput, Problem

JSON = "application/json"
BINARY = "application/octet-stream"
KNOWN_TYPES = {".json": JSON, ".bundle": BINARY, ".yaml": "application/yaml", ".md": "text/markdown"}


@dataclass(frozen=True, slots=True)
class Payload:
    body: bytes
    content_type: str | None


@click.command()
@agent_argument
@click.option("--data", "-d", metavar="JSON|@FILE|-", help="The input: JSON, a file, or - for stdin.")
@click.option("--content-type", metavar="TYPE", help="What the input is; by default from the file's name, else JSON.")
@click.option("--path", "-p", default="", metavar="PATH", help="Path below the agent's address.")
@click.option("--method", "-X", default="POST", metavar="METHOD", show_default=True, help="HTTP method.")
@click.option("--session", "-s", metavar="SESSION", help="Start or continue this session (a conversation).")
@click.option("--async", "asynchronous", is_flag=True, help="Do not wait for the answer: print the run's address.")
@click.option("--stream", is_flag=True, help="Print the answer piece by piece, as it comes.")
@click.option("--idempotency-key", metavar="KEY", help="Calls with the same key and input are one run.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="Send this header, too.")
@output_option
@pass_cli
def invoke(
    cli: Cli,
    name: str,
    data: str | None,
    content_type: str | None,
    path: str,
    method: str,
    session: str | None,
    asynchronous: bool,
    stream: bool,
    idempotency_key: str | None,
    headers: Sequence[str],
) -> None:
    """Call an agent and print its answer.

    \b
    Examples:
      orchestrator invoke reader -d '{"text": "Rivers carry water."}'
      orchestrator invoke triage -d @issue.json --session monday
      echo '{"text": "From a pipe."}' | orchestrator invoke reader -d -
    """
    payload = read_payload(data, content_type)
    chosen = {
        "content-type": payload.content_type,
        "accept": EVENT_STREAM if stream else "*/*",
        names.SESSION: session,
        names.PREFER: "respond-async" if asynchronous else None,
        names.IDEMPOTENCY_KEY: idempotency_key,
    }
    sent = {key: value for key, value in chosen.items() if value is not None} | dict(map(_header, headers))
    address = target(f"/agents/{segment(name)}" + (f"/{path.lstrip('/')}" if path else ""))
    client = replace(cli.connect(), silence=None)  # how long a run may take is for the agent's manifest to say
    try:
        if stream:
            _print_stream(cli.terminal, client, method, address, payload.body, sent)
        else:
            print_answer(cli.terminal, client.send(method, address, body=payload.body, headers=sent))
    except KeyboardInterrupt:
        cli.terminal.note(f"\nThe run goes on: `orchestrator runs --agent {name}` finds it, `runs cancel ID` stops it")
        raise
    except Problem as problem:
        _tell_of_log(problem, name)
        raise


def _tell_of_log(problem: Problem, agent: str) -> None:
    """Say where the log of the run is that failed, if there was one."""
    if problem.status >= 500 and "run" in problem.extra:
        command = f"`orchestrator logs {agent} --run {problem.extra['run']}` shows it."
        problem.hint = f"{problem.hint} {command}".strip()


def read_payload(data: str | None, content_type: str | None) -> Payload:
    """The body that `-d` means.

    Raises `BadInput` for a file that cannot be read, `UsageError` for text that is neither JSON nor given a type.
    """
    if data is None:
        return Payload(b"", content_type)
    if data == "-":
        body = sys.stdin.buffer.read()
        return Payload(body, content_type or (JSON if _is_json(body) else BINARY))
    if data.startswith("@"):
        path = Path(data[1:])
        try:
            return Payload(path.read_bytes(), content_type or type_of(path))
        except OSError as error:
            raise BadInput(
                f"{path} cannot be read: {error.strerror}", code="file_unreadable", hint="Check the path after `-d @`."
            ) from error
    if content_type is None and not _is_json(data.encode()):
        raise click.UsageError(
            "The text after -d is no JSON. Use -d @FILE for a file, or --content-type text/plain to send it as it is."
        )
    return Payload(data.encode(), content_type or JSON)


def type_of(path: Path) -> str:
    """The content type that a file's name suggests."""
    return KNOWN_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or BINARY


def print_answer(terminal: Terminal, answer: Answer) -> None:
    """Print an answer. Raises `Problem` for one that is an error."""
    run = answer.headers.get(names.RUN_ADDRESS)
    if terminal.verbose and run:
        terminal.note(f"{answer.status} · {run} · {answer.headers.get(names.REVISION, '')}", dim=True)
    if answer.status >= 400 and answer.content_type != PROBLEM_CONTENT_TYPE and not terminal.json:
        _write(terminal, answer)  # an agent's own words for what went wrong
        raise problem_of(Answer(answer.status, answer.headers, b"the agent answered with an error of its own"))
    checked(answer)
    if terminal.json:
        terminal.data(_as_json(answer), "")
    elif answer.status == 202 and run:
        terminal.data({}, f"Accepted: {run}\nFollow it with `orchestrator runs follow {run.rpartition('/')[2]}`")
    else:
        _write(terminal, answer)


def _write(terminal: Terminal, answer: Answer) -> None:
    """The body: JSON indented for a person, exactly the bytes for a program or a file."""
    text = answer.content_type.startswith("text/") or answer.content_type.endswith(("json", "xml", "yaml"))
    if not terminal.interactive:
        out: BinaryIO = sys.stdout.buffer
        out.write(answer.body)
        out.flush()
    elif answer.content_type.endswith("json") and _is_json(answer.body):
        click.echo(json.dumps(answer.json(), indent=2, ensure_ascii=False))
    elif text or not answer.body:
        click.echo(answer.body.decode(errors="replace"))
    else:
        terminal.note(f"{len(answer.body)} bytes of {answer.content_type}; send them to a file with `> FILE`")


def _as_json(answer: Answer) -> dict[str, Any]:
    """The answer with what came around it; a body that is neither JSON nor text is in base64."""
    run = answer.headers.get(names.RUN_ADDRESS)
    whole: dict[str, Any] = {
        "run": run.rpartition("/")[2] if run else None,
        "address": run,
        "revision": answer.headers.get(names.REVISION),
        "status": answer.status,
        "content_type": answer.content_type,
    }
    if answer.content_type.endswith("json") and answer.body:
        return {**whole, "answer": answer.json()}
    try:
        return {**whole, "answer": answer.body.decode()}
    except UnicodeDecodeError:
        return {**whole, "answer_base64": base64.b64encode(answer.body).decode()}


def _print_stream(
    terminal: Terminal, client: Client, method: str, address: str, body: bytes, sent: dict[str, str]
) -> None:
    """Print the events of a streamed answer, one per line; an answer that is no stream as usual."""
    failure: Answer | None = None
    with client.open(method, address, body=body, headers=sent) as response:
        received = {name.lower(): value for name, value in response.getheaders()}
        run = received.get(names.RUN_ADDRESS)
        if not received.get("content-type", "").startswith(EVENT_STREAM):
            print_answer(terminal, Answer(response.status, received, response.read()))
            return
        if terminal.verbose and run:
            terminal.note(f"{response.status} · {run}", dim=True)
        for event in read_events(lines_of(response)):
            value = event.value()
            if event.name == "problem":
                failure = Answer(500, received, event.data.encode())
                continue
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            terminal.data({"event": event.name, "data": value}, f"{event.name}  {text}")
            sys.stdout.flush()
    if failure is not None:
        raise problem_of(failure)


def _header(given: str) -> tuple[str, str]:
    name, separator, value = given.partition(":")
    if not separator or not name.strip():
        raise click.UsageError(f"{given!r} is not NAME:VALUE")
    return name.strip().lower(), value.strip()


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
