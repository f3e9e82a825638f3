"""An agent's folder as a bundle: digests that depend on the files only, and archives that nobody should trust."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from builders import bundle
from orchestrator_runtime.contract.errors import BadInput, Problem, TooLarge, Unprocessable


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return [file.path for file in bundle.list_files(folder)]


def archive(*members: tarfile.TarInfo, content: bytes = b"x") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as made:
        for member in members:
            if member.isreg():
                member.size = len(content)
            made.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return target.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


# what belongs to it


def test_the_files_of_the_folder_sorted_without_what_never_belongs_to_an_agent(tmp_path: Path) -> None:
    write(tmp_path, b="", a__z="", a__b__c="", __pycache__="x")
    for ignored in (".git/config", ".venv/x", "node_modules/x", "a/__pycache__/x.pyc", "a/left.pyc"):
        path = tmp_path / ignored
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [name for name in names(tmp_path) if "pycache" not in name] == ["a/b/c", "a/z", "b"]


def test_the_folders_own_ignore_file_works_like_gits(tmp_path: Path) -> None:
    write(tmp_path, a="", data__x="", keep__x="", notes="")
    (tmp_path / ".orchestratorignore").write_text("data/\nno*\n!keep\n")
    assert names(tmp_path) == [".orchestratorignore", "a", "keep/x"]


def test_a_link_is_refused_by_name_wherever_it_leads(tmp_path: Path) -> None:
    (tmp_path / "secrets").symlink_to("/etc")
    with pytest.raises(Unprocessable) as caught:
        bundle.list_files(tmp_path)
    assert (caught.value.code, caught.value.extra["path"]) == ("bundle_not_plain", "secrets")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unprocessable, match="no plain file"):
        bundle.list_files(tmp_path)


@pytest.mark.parametrize("name", [b"bad\xff", b"back\\slash", b"new\nline"])
def test_a_name_that_cannot_travel_is_refused(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()  # noqa: PTH118 - bytes
    with pytest.raises(Unprocessable) as caught:
        bundle.list_files(tmp_path)
    assert caught.value.code == "bundle_path"


def test_too_many_files_or_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a="123", b="456")
    monkeypatch.setattr(bundle, "MAX_FILES", 1)
    with pytest.raises(TooLarge, match="more than 1 files"):
        bundle.list_files(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(bundle, "MAX_TOTAL_BYTES", 5)
    with pytest.raises(TooLarge, match="MiB"):
        bundle.list_files(tmp_path)


# digests and archives


def test_equal_files_have_one_digest_and_one_archive_whenever_they_were_written(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", a="x", b__c="y"), write(tmp_path / "other", b__c="y", a="x")
    os.utime(other / "a", (0, 0))
    assert bundle.digest(bundle.list_files(one)) == bundle.digest(bundle.list_files(other))
    assert bundle.pack(one) == bundle.pack(other)


@pytest.mark.parametrize("change", ["content", "name", "mode"])
def test_any_change_is_another_digest(tmp_path: Path, change: str) -> None:
    write(tmp_path, a="x")
    before = bundle.digest(bundle.list_files(tmp_path))
    if change == "content":
        (tmp_path / "a").write_text("y")
    elif change == "name":
        (tmp_path / "a").rename(tmp_path / "b")
    else:
        (tmp_path / "a").chmod(0o755)
    assert bundle.digest(bundle.list_files(tmp_path)) != before


def test_what_is_packed_unpacks_to_the_same_files_and_digest(tmp_path: Path) -> None:
    source = write(tmp_path / "source", a="x", deep__er__file="y" * 100_000)
    (source / "a").chmod(0o755)
    digest = bundle.unpack(bundle.pack(source), tmp_path / "into")
    assert digest == bundle.digest(bundle.list_files(source)) == bundle.digest(bundle.list_files(tmp_path / "into"))
    assert (tmp_path / "into/a").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "name",
    ["../out", "/etc/passwd", "a/../../out", "a//b", "./a", "a\\b", "a\x01b", "x" * 300, "/".join(["abcdefgh"] * 130)],
)
def test_a_path_that_leaves_the_folder_or_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        bundle.unpack(archive(member(name)), tmp_path / "into")
    assert caught.value.code == "bundle_invalid"
    assert list(tmp_path.rglob("*")) == [tmp_path / "into"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_devices_and_pipes_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(BadInput, match="is no plain file"):
        bundle.unpack(archive(member("a", kind, "/etc/passwd")), tmp_path / "into")


def test_a_file_twice_or_a_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    for number, second in enumerate(("a", "a/b")):
        with pytest.raises(BadInput):
            bundle.unpack(archive(member("a"), member(second)), tmp_path / str(number))


def test_empty_folders_are_not_part_of_a_version(tmp_path: Path) -> None:
    data = archive(member("empty", tarfile.DIRTYPE), member("a"))
    assert bundle.unpack(data, tmp_path / "into") == bundle.digest(bundle.list_files(tmp_path / "into"))
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["a"]


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", gzip.compress(b"no tar"), gzip.compress(b"x" * 10_000)[:40]],
    ids=["nothing", "no gzip", "no tar", "cut"],  # a compressed value has the time in it
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        bundle.unpack(data, tmp_path / "into")
    assert caught.value.code == "bundle_invalid"


def test_an_archive_that_ends_early_is_refused(tmp_path: Path) -> None:
    data = archive(member("a"), content=os.urandom(100_000))
    with pytest.raises(BadInput):
        bundle.unpack(data[:-50_000], tmp_path / "into")


def test_a_small_archive_that_becomes_a_huge_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_TOTAL_BYTES", 1_000_000)
    bomb = archive(member("a"), content=bytes(5_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(TooLarge):
        bundle.unpack(bomb, tmp_path / "into")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 0


def test_too_many_files_are_refused_before_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_TOTAL_BYTES", 0)
    monkeypatch.setattr(bundle, "MAX_FILES", 10)
    with pytest.raises(TooLarge):
        bundle.unpack(archive(*(member(f"f{number}") for number in range(50)), content=b""), tmp_path / "many")


def test_a_full_disk_is_no_fault_of_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(Problem) as caught:
        bundle.unpack(archive(member("a")), tmp_path / "into")
    assert (caught.value.code, caught.value.status) == ("disk_full", 503)
