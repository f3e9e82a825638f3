"""What a folder declares, its locks, and what uv says, without running anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import dependencies, locks, resolver
from builders.dependencies import Declared
from domain.manifest import Framework
from orchestrator_runtime.contract.errors import Unprocessable

A, B = "a" * 64, "b" * 64


def folder(tmp_path: Path, **files: str) -> str:
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    return str(tmp_path)


def refused(tmp_path: Path, **files: str) -> str:
    with pytest.raises(Unprocessable) as caught:
        dependencies.read(folder(tmp_path, **files))
    assert caught.value.code == "dependencies_invalid"
    assert caught.value.hint
    return caught.value.detail


# what is declared


def test_a_folder_that_declares_nothing_needs_nothing(tmp_path: Path) -> None:
    assert dependencies.read(str(tmp_path)) == Declared()


def test_a_project_declares_its_dependencies_its_python_and_its_indexes(tmp_path: Path) -> None:
    text = """
        [project]
        dependencies = ["httpx>=0.28", "agno"]
        requires-python = ">=3.12"
        [[tool.uv.index]]
        name = "ours"
        url = "https://packages.example.com/simple"
        [[tool.uv.index]]
        url = "https://explicit.example.com"
        explicit = true
    """
    declared = dependencies.read(folder(tmp_path, pyproject_toml=text, requirements_txt="ignored"))
    assert declared.requirements == ("httpx>=0.28", "agno")
    assert (declared.requires_python, declared.source) == (">=3.12", "pyproject.toml")
    assert declared.indexes == ("ours=https://packages.example.com/simple",)


def test_a_requirements_file_may_include_others_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/more.txt").write_text("b==2  # why\n")
    (tmp_path / "limits.txt").write_text("c<3\n")
    text = f"""
        # a comment
        a == 1 \\
          --hash=sha256:{A}
        -r sub/more.txt
        -c limits.txt
        --extra-index-url https://packages.example.com/simple
    """
    declared = dependencies.read(folder(tmp_path, requirements_txt=text))
    assert declared.requirements == (f"a == 1 --hash=sha256:{A}", "b==2")
    assert declared.constraints == ("c<3",)
    assert declared.indexes == ("https://packages.example.com/simple",)
    assert declared.source == "requirements.txt"


def test_equal_declarations_have_equal_digests_and_whatever_decides_more_changes_them() -> None:
    one, other = Declared(("a",), source="x"), Declared(("a",), source="y")
    assert one.digest("3.11") == other.digest("3.11")
    assert len({one.digest("3.11"), one.digest("3.12"), Declared(("a", "b")).digest("3.11")}) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-e .", "the option -e"),
        ("--pre", "the option --pre"),
        ("./local", "the local path"),
        ("../up", "the local path"),
        ("/abs", "the local path"),
        ("file:///x", "the local path"),
        ("x @ file:///etc", "the local path"),
        ("-r ../outside.txt", "no other file of the folder"),
        ("-r requirements.txt", "no other file of the folder"),
        ("-r missing.txt", "no other file of the folder"),
    ],
)
def test_what_is_no_requirement_on_a_package_is_refused(tmp_path: Path, line: str, words: str) -> None:
    assert words in refused(tmp_path, requirements_txt=line)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.txt").write_text("a\n")
    (inside / "more.txt").symlink_to(tmp_path / "outside.txt")
    (inside / "requirements.txt").write_text("-r more.txt\n")
    with pytest.raises(Unprocessable):
        dependencies.read(str(inside))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[project", "no valid TOML"),
        ("[project]\ndynamic = ['dependencies']", "dynamic"),
        ("[project]\ndependencies = 'a'", "no list of texts"),
        ("[project]\ndependencies = ['./x']", "the local path"),
        ("[project]\ndependencies = ['x']\n[tool.uv.sources]\nx = {path = '../x'}", "tool.uv.sources"),
    ],
)
def test_a_project_that_cannot_be_read_without_running_it_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, pyproject_toml=text)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"\xff")
    with pytest.raises(Unprocessable, match="not UTF-8"):
        dependencies.read(str(tmp_path))


def test_uvs_own_lock_is_kept_for_uv_and_replaced_by_what_it_exports(tmp_path: Path) -> None:
    project = "[project]\ndependencies = ['a']\n[tool.uv.sources]\na = {git = 'https://x'}"
    declared = dependencies.read(folder(tmp_path, pyproject_toml=project, uv_lock="version = 1"))
    assert (declared.uv_lock, declared.source) == ((project, "version = 1"), "uv.lock")
    exported = dependencies.exported(declared, f"--index-url https://x\na==1 --hash=sha256:{A}\n")
    assert (exported.requirements, exported.uv_lock) == ((f"a==1 --hash=sha256:{A}",), None)
    with pytest.raises(Unprocessable):
        dependencies.exported(declared, "-e .")


def test_a_standard_lock_pins_everything(tmp_path: Path) -> None:
    lock = locks.write([locks.Package("a", "1", (locks.Artifact("https://x/a-1-py3-none-any.whl", A),))])
    declared = dependencies.read(folder(tmp_path, pylock_toml=lock, requirements_txt="a\n"))
    assert declared.requirements == ("a", f"a==1 --hash=sha256:{A}")
    assert declared.source == "pylock.toml"


def test_the_frameworks_package_must_be_among_what_was_resolved() -> None:
    dependencies.check_framework(Framework.PLAIN, frozenset(), Declared())
    dependencies.check_framework(Framework.AGNO, frozenset({"agno"}), Declared())
    with pytest.raises(Unprocessable) as caught:
        dependencies.check_framework(Framework.LANGGRAPH, frozenset({"agno"}), Declared(source="pyproject.toml"))
    assert (caught.value.code, caught.value.hint) == ("framework_missing", "Add `langgraph` to pyproject.toml.")


def test_only_credentials_of_indexes_reach_a_build() -> None:
    assert dependencies.is_build_secret("UV_INDEX_OURS_PASSWORD")
    assert dependencies.is_build_secret("PIP_INDEX_URL")
    assert not dependencies.is_build_secret("OPENAI_API_KEY")


# locks


def test_a_lock_is_written_in_one_way_whatever_it_was_read_from() -> None:
    text = f"""
        lock-version = "1.0"
        [[packages]]
        name = "B.pkg"
        version = "2"
        sdist = {{ url = "https://x/b.tar.gz", hashes = {{ sha256 = "{B}" }} }}
        [[packages]]
        name = "a"
        version = "1"
        marker = "python_version > '3'"
        wheels = [{{ url = "https://x/a.whl", hashes = {{ sha256 = "{A}" }} }}]
    """
    lock = locks.read_pylock(text)
    assert lock.names == {"a", "b-pkg"}
    assert [package.must_be_built for package in lock.packages] == [False, True]
    assert locks.read_pylock(locks.write(lock.packages)).digest() == lock.digest()
    assert lock.packages[0].pinned() == f"a==1 ; python_version > '3' --hash=sha256:{A}"
    assert lock.packages[0].installed_from() == f"a==1 --hash=sha256:{A}"
    built = locks.Artifact("file:///w/b.whl", B)
    assert lock.packages[1].installed_from(built) == f"b-pkg @ file:///w/b.whl --hash=sha256:{B}"


def test_packages_from_addresses_and_commits_keep_where_they_come_from() -> None:
    text = f"""
        [[packages]]
        name = "arch"
        archive = {{ url = "https://x/arch-1.whl", hashes = {{ sha256 = "{A}" }} }}
        [[packages]]
        name = "sd"
        archive = {{ url = "https://x/sd-1.tar.gz", hashes = {{ sha256 = "{B}" }} }}
        [[packages]]
        name = "vc"
        vcs = {{ type = "git", url = "https://x/vc.git", commit-id = "abc" }}
    """
    arch, sd, vc = locks.read_pylock(text).packages
    assert arch.installed_from() == f"arch @ https://x/arch-1.whl --hash=sha256:{A}"
    assert (sd.must_be_built, "archive = " in sd.toml()) == (True, True)
    assert vc.pinned() == "vc @ git+https://x/vc.git@abc"
    assert 'commit-id = "abc"' in vc.toml()


@pytest.mark.parametrize(
    "text",
    [
        "packages = 3",
        "[[packages]]\nversion = '1'",
        "[[packages]]\nname = 'a b'",
        "[[packages]]\nname = '-r'",
        "[[packages]]\nname = 'a'\nversion = '1 --index-url http://evil'",
        "[[packages]]\nname = 'a'\nwheels = [{url = 'u'}]",
        "[[packages]]\nname = 'a'\ndirectory = {path = '../a'}",
        "not toml",
    ],
)
def test_what_is_no_lock_or_would_break_out_of_its_line_is_refused(text: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        locks.read_pylock(text)
    assert caught.value.code == "dependencies_invalid"


def test_only_files_whose_hash_the_folders_own_lock_names_are_kept() -> None:
    wheels = (locks.Artifact("https://x/1.whl", A), locks.Artifact("https://x/2.whl", B))
    lock = locks.Lock((locks.Package("a", "1", wheels), locks.Package("free", "1", wheels)))
    allowed = locks.hashes_of([f"A == 1 --hash=sha256:{B}", "free"])
    kept = locks.keep_allowed(lock, allowed)
    assert [len(package.wheels) for package in kept.packages] == [1, 2]
    with pytest.raises(Unprocessable) as caught:
        locks.keep_allowed(lock, {"a": frozenset({"c" * 64})})
    assert caught.value.code == "lock_hash_mismatch"


# what uv says


def test_colours_and_credentials_are_taken_out_of_what_uv_says() -> None:
    line = b"\x1b[31merror\x1b[0m: https://user:secret@packages.example.com/x \n"
    assert resolver.clean(line) == "error: https://****@packages.example.com/x"


UNSATISFIABLE = """\
error: No solution found when resolving dependencies
  cause: Because a==1 depends on b<1
         and you require a==1, we can conclude that you require b<1.
         And because you require b>1, your requirements are unsatisfiable.
"""


def test_a_resolution_that_fails_begins_with_its_cause() -> None:
    problem = resolver.resolution_failed(1, ["Resolving", *UNSATISFIABLE.splitlines()])
    assert problem.code == "dependencies_unresolvable"
    assert problem.detail == (
        "The dependencies cannot be resolved: Because a==1 depends on b<1 and you require a==1, we can conclude that "
        "you require b<1. And because you require b>1, your requirements are unsatisfiable"
    )
    assert problem.extra["resolver"] == UNSATISFIABLE.strip()
    assert "Change the requirements" in problem.hint


def test_the_resolvers_own_hint_is_the_hint() -> None:
    lines = [*UNSATISFIABLE.splitlines(), "", "hint: An index returned 401 Unauthorized"]
    assert resolver.resolution_failed(1, lines).hint == "An index returned 401 Unauthorized"


def test_an_older_drawing_and_other_failures_are_understood() -> None:
    drawn = ["  × No solution found:", "  ╰─▶ Because a needs b<1 …"]
    assert resolver.resolution_failed(1, drawn).detail.endswith("resolved: Because a needs b<1 …")
    failed = resolver.resolution_failed(2, ["error: Failed to parse", "  Caused by: no such file"])
    assert failed.detail == "The dependencies could not be read or fetched: Failed to parse: no such file"
    assert resolver.build_failed("Installing", ["sh: uv: not found"]).detail == "Installing failed: sh: uv: not found"
    assert resolver.build_failed("Installing", []).code == "build_failed"


def test_of_a_long_failure_the_end_is_told() -> None:
    detail = resolver.build_failed("Building x", ["error: Failed", *["x" * 90] * 25, "the compiler is missing"]).detail
    assert detail.startswith("Building x failed: … ")
    assert detail.endswith("the compiler is missing")
    assert len(detail) < 1100


def test_an_index_that_did_not_answer_is_told_apart_from_what_another_try_cannot_mend() -> None:
    lines = [
        "error: Request failed after 3 retries in 44.1s",
        "  cause: Failed to fetch: https://index/simple/a/",
        "  cause: client error (Connect)",
        "  cause: operation timed out",
    ]
    for problem in (resolver.resolution_failed(2, lines), resolver.build_failed("Installing", lines)):
        assert (problem.status, problem.code) == (503, resolver.UNREACHABLE)
        assert problem.detail.endswith("answer: Failed to fetch: https://index/simple/a/: operation timed out")


def test_a_full_disk_is_told_apart() -> None:
    lines = ["error: failed to write", "  Caused by: No space left on device (os error 28)"]
    assert resolver.resolution_failed(2, lines).code == "disk_full"
    assert resolver.build_failed("Installing", lines).code == "disk_full"
    assert resolver.build_failed("Installing", ["error: x"]).code == "build_failed"
