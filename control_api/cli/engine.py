"""`up`, `down`, `status`: the platform on this machine."""

from __future__ import annotations

import http.client
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from control_api.cli import process
from control_api.cli.client import connection_to, verified
from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.terminal import fields
from domain.home import Home
from local.gateway.tls import CERTIFICATE, KEY, serving
from orchestrator_runtime.contract.errors import BadInput, Unavailable

HOST = "127.0.0.1"
PORT = 4100
FORBIDDEN_PORT = 2024
HEALTH_TIMEOUT = 5.0
DOWN = 3  # exit code of `status`


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    envvar="ORCHESTRATOR_PORT",
    show_envvar=True,
    default=PORT,
    show_default=True,
    help="Where to serve: the next free port if it is taken; 0: any.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    envvar="ORCHESTRATOR_HOST",
    show_envvar=True,
    default=HOST,
    show_default=True,
    help="The address to serve at; any other than the loopback's needs a certificate.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar=CERTIFICATE,
    show_envvar=True,
    help="Speak TLS with this certificate (PEM, its intermediate ones after it).",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar=KEY,
    show_envvar=True,
    help="The certificate's private key (PEM, without a passphrase).",
)
@click.option("--upgrade", is_flag=True, help="Restart it if the program has changed since it was started.")
@output_option
@pass_cli
def up(cli: Cli, port: int, host: str, tls_certificate: Path | None, tls_key: Path | None, upgrade: bool) -> None:
    """Start the platform in the background.

    Returns when it serves. If it runs already, nothing changes.
    """
    if port == FORBIDDEN_PORT:
        raise BadInput(f"Port {port} is never used", code="port_refused", hint="Choose another one with --port.")
    home = cli.home
    running = process.running_pid(home) is not None
    if running and upgrade and process.program_changed(home):
        cli.terminal.note("The program has changed since it was started: restarting")
        process.stop(home)
        running = False
    if running:
        address = _address(home, ca=cli.ca)
        cli.terminal.data(_state(home, changed=False), f"Already running at {address}; nothing changed")
        return
    environ = {**cli.environ, "ORCHESTRATOR_HOST": host}
    for name, file in ((CERTIFICATE, tls_certificate), (KEY, tls_key)):
        if file is not None:
            environ[name] = str(file.expanduser().absolute())  # the platform works in another folder
    from control_api.settings import read_settings  # pydantic is slow to import, and only a start needs it

    settings = read_settings(environ)  # a wrong one is refused here: a server that ends is only started again
    serving(environ, host=settings.host, now=datetime.now(UTC))  # and so is a certificate
    if settings.database is not None:
        from control_api.store.reachable import wait_until_reachable  # so is SQLAlchemy

        cli.terminal.note("Connecting to the database …", dim=True)
        wait_until_reachable(settings.database)
    if settings.database is not None or home.database.exists() or settings.encryption.source != "file":
        from control_api.encryption.opening import check  # for the same reason

        check(settings)
    cli.terminal.note("Starting …", dim=True)
    log = process.log_file(home)
    address = process.start(
        home,
        port=port,
        environ=environ,
        waiting=lambda seconds: cli.terminal.note(f"Still starting after {seconds:.0f} s; {log} says what it does"),
    )
    if port and urlsplit(address).port != port:
        cli.terminal.note(f"Port {port} is taken by another program, so another one was chosen")
    cli.terminal.data(_state(home, changed=True), f"Running at {address}")


@click.command()
@output_option
@pass_cli
def down(cli: Cli) -> None:
    """Stop the platform; data and agents stay."""
    stopped = process.stop(cli.home)
    cli.terminal.data({"stopped": stopped}, "Stopped" if stopped else "It was not running")


@click.command()
@output_option
@click.pass_context
def status(context: click.Context) -> None:
    """Show whether the platform runs, and how it is.

    The exit code is 3 while it is down.
    """
    cli = context.ensure_object(Cli)
    if cli.environ.get("ORCHESTRATOR_URL") is None and process.running_pid(cli.home) is None:
        home = str(cli.home.root)
        cli.terminal.data({"running": False, "home": home}, f"Not running (home {home}). `orchestrator up` starts it")
        context.exit(DOWN)
    client = cli.connect()
    state: dict[str, Any] = {
        "running": True,
        "address": client.url,
        "home": str(cli.home.root),
        "pid": process.running_pid(cli.home),
        "healthy": healthy(client.url, ca=cli.ca),
    }
    state["health"] = client.get("/health")
    state["agents"] = len(client.pages("/agents", limit=200)[0])
    shown = [(name, _words(value)) for name, value in state.items() if name != "running"]
    cli.terminal.data(state, fields(shown))


def healthy(url: str, *, ca: str | None) -> bool:
    """Whether the gateway says so, without a credential. Raises `Unavailable` if it cannot be verified."""
    connection = connection_to(url, timeout=HEALTH_TIMEOUT, ca=ca)
    try:
        with verified(url):
            connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (http.client.HTTPException, OSError):  # no answer is the answer
        return False
    finally:
        connection.close()


def _address(home: Home, *, ca: str | None) -> str:
    """Where the running platform serves. Raises `Unavailable` while it is still starting."""
    try:
        address = home.address.read_text().strip()
    except FileNotFoundError:
        address = ""
    if not address or not healthy(address, ca=ca):
        raise Unavailable(
            "It is running but does not answer yet",
            code="starting",
            hint=f"Try again in a moment; {process.log_file(home)} says what it does.",
        )
    return address


def _state(home: Home, *, changed: bool) -> dict[str, Any]:
    address, pid = home.address.read_text().strip(), process.running_pid(home)
    return {"address": address, "home": str(home.root), "pid": pid, "changed": changed}


def _words(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items())
    return value
