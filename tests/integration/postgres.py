"""A real PostgreSQL for tests: a cluster in a temporary folder, a free port on loopback, gone when the tests are."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from local.gateway.tls import Files

INSTALLED = Path("/usr/lib/postgresql")
SETTINGS = ("fsync=off", "synchronous_commit=off", "unix_socket_directories=", "listen_addresses=127.0.0.1")


def _programs() -> Path:
    found = sorted(INSTALLED.glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise RuntimeError("PostgreSQL is not installed: `make test` installs it")
    return found[-1]


def _run(*command: str) -> None:
    """Run a program of PostgreSQL, which refuses to be root, as the user that its Debian package made."""
    prefix = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    done = subprocess.run([*prefix, *command], check=False, capture_output=True, text=True, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _own(source: Path, target: Path) -> None:
    """A copy that the server may read and nobody else, which it insists on for keys."""
    shutil.copyfile(source, target)
    target.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(target, "postgres", "postgres")


@contextmanager
def postgres_server(*, tls: Files | None = None) -> Iterator[str]:
    """A running server; gives the URL of its maintenance database. With `tls` it may be connected to encrypted."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data, port = folder / "data", free_port()
        _run(f"{programs}/initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        settings = [*SETTINGS, f"port={port}"]
        if tls is not None:
            settings += ["ssl=on", f"ssl_cert_file={folder}/server.pem", f"ssl_key_file={folder}/server.key"]
            _own(tls.certificate, folder / "server.pem")
            _own(tls.key, folder / "server.key")
        options = " ".join(f"-c {setting}" for setting in settings)
        control = f"{programs}/pg_ctl"
        _run(control, "start", "-w", "-D", str(data), "-l", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        finally:
            _run(control, "stop", "-m", "immediate", "-D", str(data))
    finally:
        shutil.rmtree(folder)


def fresh_database(server: str, name: str) -> str:
    """The URL of a new, empty database of the server."""
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server.rpartition("/")[0] + "/" + name
