"""A package index that does not answer at first: what a deployment does about it, and says of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import new_installation
from tests.e2e.platform import write_agent
from tests.fakes.package_index import package_index, wheel

RUNTIME = ("httptools", "pydantic", "uvloop")  # what every environment has; here of two lines each


def test_a_build_goes_on_once_the_index_answers(tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "patient", name="patient", code="handle = print\n")
    with package_index() as index:
        index.add(*(wheel(name, "99.0") for name in RUNTIME))
        index.down = True
        address = f"http://127.0.0.1:{index.port}/simple"
        with new_installation(UV_DEFAULT_INDEX=address, UV_HTTP_RETRIES="1") as platform:
            said = []
            with subprocess.Popen(
                [str(Path(sys.executable).parent / "orchestrator"), "deploy", str(folder)],
                env={**os.environ, "ORCHESTRATOR_HOME": str(platform.home)},
                stderr=subprocess.PIPE,
                text=True,
            ) as deploying:
                assert deploying.stderr is not None
                for line in deploying.stderr:
                    said.append(line.strip())
                    if "503 Service Unavailable" in line and line.endswith("Trying again in 5 s (2 of 3)\n"):
                        index.down = False
            with platform.client() as client:
                [build] = client.get("/api/v1/builds").json()["items"]
    assert not index.down, said
    assert build["state"] == "succeeded", said
