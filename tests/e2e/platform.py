"""A whole installation for tests: real supervisor, server, gateway and sandboxes, on a free port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Installation:
    """A running platform and ways to use it as a person would: by the CLI and over HTTP."""

    home: Path
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start the supervisor and wait until server and gateway serve."""
        reading, writing = os.pipe()
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        log = (self.home / "platform.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "local.supervisor",
                "--home",
                str(self.home),
                "--port",
                "0",
                "--ready-fd",
                str(writing),
            ],
            env={**environment, **self.environment},
            pass_fds=[writing],
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
        )
        log.close()
        os.close(writing)
        with os.fdopen(reading) as ready:
            self.address = ready.readline().strip()
        if not self.address:
            raise AssertionError("the platform did not start:\n" + self.platform_log()[-4000:])

    def stop(self) -> None:
        """End it as `orchestrator down` does; kill it if it does not go."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def kill(self) -> None:
        """kill -9 of the supervisor: everything dies with it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def token(self) -> str:
        return (self.home / "owner-token").read_text().strip()

    def platform_log(self) -> str:
        return (self.home / "platform.log").read_text()

    def client(self, *, timeout: float = 60.0) -> httpx.Client:
        return httpx.Client(
            base_url=self.address, headers={"Authorization": f"Bearer {self.token}"}, timeout=timeout, trust_env=False
        )

    def cli(self, *arguments: str, cwd: Path | None = None, check: bool = True, **options: Any) -> str:
        """Run `orchestrator …` and return what it printed; with `check`, a failure shows everything it said."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(Path(sys.executable).parent / "orchestrator"), *arguments],
            env={**options.pop("environment", os.environ), "ORCHESTRATOR_HOME": str(self.home)},
            cwd=cwd,
            capture_output=True,
            check=False,
            text=True,
            timeout=options.pop("timeout", 120),
            **options,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"orchestrator {' '.join(arguments)} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def deploy(self, folder: Path) -> None:
        self.cli("deploy", str(folder))

    def runs(self, agent: str) -> list[dict[str, Any]]:
        """Every run of the agent, newest first."""
        found: list[dict[str, Any]] = []
        cursor = ""
        with self.client() as client:
            while True:
                page = client.get(
                    "/api/v1/runs", params={"agent": agent, "limit": 200, **({"cursor": cursor} if cursor else {})}
                )
                page.raise_for_status()
                found += page.json()["items"]
                cursor = page.json()["next"] or ""
                if not cursor:
                    return found


def write_agent(folder: Path, *, name: str, code: str, manifest: str = "", files: dict[str, str] | None = None) -> Path:
    """A folder with an agent: `agent.py` with `code` and an `agent.yaml` with `manifest` added to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agent.yaml").write_text(f"name: {name}\nentrypoint: agent:handle\n{manifest}")
    (folder / "agent.py").write_text(code)
    for path, text in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@contextlib.contextmanager
def installation(home: Path, **environment: str) -> Iterator[Installation]:
    """A platform in `home`, stopped at the end."""
    home.mkdir(parents=True, exist_ok=True)
    running = Installation(home, environment=environment)
    running.start()
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(home / "run", ignore_errors=True)
