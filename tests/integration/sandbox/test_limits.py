"""What an instance may use up, and that nobody else notices when it tries to use more."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from orchestrator_runtime.contract.errors import Forbidden
from tests.integration.sandbox.cells import LIMITS, Cell, Ended, Keeper, Refused, Supervisor


async def test_too_much_memory_ends_the_instance_with_the_reason(supervisor: Supervisor, cell: Cell) -> None:
    neighbour = await supervisor.start("other")
    with pytest.raises(Ended):
        await cell.attempt("fill_memory", 400)
    assert (await cell.ending())["reason"] == "out_of_memory"
    assert await neighbour.attempt("processes") == [1]
    assert await (await supervisor.start("one")).attempt("processes") == [1]


async def test_many_small_processes_have_no_more_memory_together(supervisor: Supervisor, cell: Cell) -> None:
    try:
        killed = await cell.attempt("fill_memory_in_children", 400, 8)
    except Ended:
        assert (await cell.ending())["reason"] == "out_of_memory"
    else:
        assert killed > 0


async def test_memory_within_the_limit_is_no_reason_to_end(cell: Cell) -> None:
    assert await cell.attempt("fill_memory_in_children", 16, 2) == 0


async def test_there_can_be_only_so_many_processes(cell: Cell) -> None:
    assert 0 < await cell.attempt("fork_until_refused", 200) < LIMITS["processes"]
    assert await cell.attempt("processes") == [1]


async def test_threads_count_as_processes(cell: Cell) -> None:
    assert 0 < await cell.attempt("start_threads_until_refused", 200) < LIMITS["processes"]


async def test_one_agents_processes_are_not_counted_for_another(supervisor: Supervisor, cell: Cell) -> None:
    other = await supervisor.start("other", processes=200)
    assert await other.attempt("fork_until_refused", 100) == 100
    assert await cell.attempt("fork_until_refused", 5) == 5


async def test_instances_are_born_in_a_control_group_of_their_own_which_their_zygote_has_left(
    supervisor: Supervisor,
) -> None:
    if not supervisor.protections["memory limit"].endswith("(control group)"):
        pytest.skip("no control groups are delegated to whoever runs this supervisor")
    cells = [await supervisor.start() for _ in range(3)]
    groups = {memory_group(cell.pid) for cell in cells}
    assert len(groups) == 3
    assert memory_group(parent(cells[0].pid)) not in groups - {memory_group(cells[-1].pid)}


def memory_group(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    named = {
        controller: path for line in lines for _, names, path in [line.split(":", 2)] for controller in names.split(",")
    }
    return named.get("memory") or named[""]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_there_can_be_only_so_many_open_files(cell: Cell) -> None:
    assert 0 < await cell.attempt("open_files_until_refused", 200) < LIMITS["open_files"]


@pytest.mark.parametrize("path", ["/tmp/large", "/dev/shm/large", "/var/tmp/large"])
async def test_the_scratch_folder_holds_so_many_bytes(cell: Cell, path: str) -> None:
    with pytest.raises(Refused) as caught:
        await cell.attempt("fill_disk", path, 8)
    assert caught.value.errno == errno.ENOSPC


async def test_the_scratch_folder_holds_so_many_files(cell: Cell) -> None:
    with pytest.raises(Refused) as caught:
        await cell.attempt("make_files", "/tmp", 200)
    assert caught.value.errno == errno.ENOSPC


async def test_what_one_instance_wrote_no_other_finds(supervisor: Supervisor, cell: Cell) -> None:
    await cell.attempt("write_file", "/tmp/mine")
    again = await supervisor.start("one")
    with pytest.raises(Refused) as caught:
        await again.attempt("read_file", "/tmp/mine")
    assert caught.value.errno == errno.ENOENT


async def test_an_instance_is_held_to_its_share_of_the_processors(cell: Cell, supervisor: Supervisor) -> None:
    if "control group" in supervisor.protections["processor limit"]:
        assert "orchestrator-" in Path(f"/proc/{cell.pid}/cgroup").read_text()
    else:
        assert await cell.attempt("processors") == 1


def test_every_protection_is_in_force_or_says_why_it_is_not(supervisor: Supervisor, jail: Keeper) -> None:
    for name, state in supervisor.protections.items():
        print(f"{jail.mode}: {name} is {state}")
        assert state.startswith("in force") or state.removeprefix("missing: ").strip()
    assert set(supervisor.protections) >= {"namespaces", "private files", "system call filter", "memory limit"}


async def test_each_organization_has_a_uid_of_its_own_or_a_second_one_is_refused(
    supervisor: Supervisor, jail: Keeper
) -> None:
    first = await supervisor.start("one")
    if jail.mode == "root":
        second = await supervisor.start("one", organization="org-2")
        assert await first.attempt("status", "Uid") != await second.attempt("status", "Uid")
        return
    assert supervisor.protections["own host uid"].startswith("missing: only root")
    with pytest.raises(Forbidden) as caught:
        await supervisor.start("one", organization="org-2")
    assert caught.value.code == "organizations_not_isolated"
    assert "own host uid" in caught.value.detail
