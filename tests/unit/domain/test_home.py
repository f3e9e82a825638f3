"""Where the home folder and the run folder are."""

from __future__ import annotations

import stat
from pathlib import Path

from domain.home import UNIX_PATH_BYTES, Home


def test_the_variable_decides() -> None:
    assert Home.from_environment({"ORCHESTRATOR_HOME": "/data/o"}).root == Path("/data/o")


def test_a_checkout_keeps_its_data_in_itself() -> None:
    assert Home.from_environment({}).root.name == ".orchestrator"


def test_sockets_always_fit(tmp_path: Path) -> None:
    deep = Home(tmp_path / ("a" * 120))
    assert deep.run.parent != deep.root
    assert len(str(deep.instance_sockets / ("0" * 36 + ".sock"))) <= UNIX_PATH_BYTES
    assert deep.run != Home(tmp_path / ("b" * 120)).run


def test_a_short_home_has_its_run_folder_inside() -> None:
    assert Home(Path("/o")).run == Path("/o/run")


def test_the_folders_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    home.make()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.run.stat().st_mode) == 0o700
