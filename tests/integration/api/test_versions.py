"""Uploads: what is taken, what is refused and in which words, and that nothing half-made stays."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from control_api.settings import Deployments
from control_api.versions import sources
from tests.integration.api.world import ORGANIZATION, World, create_world, pack


async def test_an_upload_becomes_a_folder_named_by_its_digest(world: World) -> None:
    answer = await world.client.post("/versions", content=pack(code="x = 1\n"))
    assert answer.status_code == 201
    version = answer.json()
    assert (version["agent"], version["version"], version["framework"]) == ("triage", "0.1.0", "plain")
    folder = world.home.sources(ORGANIZATION) / version["digest"]
    assert (folder / "agent.py").read_text() == "x = 1\n"
    assert await world.get(f"/versions/{version['digest']}") == version


async def test_the_same_folder_again_is_the_same_version(world: World) -> None:
    first = await world.client.post("/versions", content=pack())
    again = await world.client.post("/versions", content=pack())
    assert (again.status_code, again.json()) == (200, first.json())
    assert leftovers(world) == []


async def test_a_mistake_in_the_manifest_says_file_line_rule_and_suggestion(world: World) -> None:
    answer = await world.client.post("/versions", content=pack(manifest="framwork: plain\n"))
    assert (answer.status_code, answer.json()["code"]) == (422, "manifest_invalid")
    [mistake] = answer.json()["mistakes"]
    assert (mistake["file"], mistake["line"]) == ("agent.yaml", 3)
    assert mistake["rule"]
    assert "framework" in mistake["suggestion"]
    assert leftovers(world) == []


async def test_a_gpu_is_refused_where_there_is_none(world: World) -> None:
    answer = await world.client.post("/versions", content=pack(manifest="resources: {gpu: 1}\n"))
    assert "the embedded engine on this machine gives agents no GPU" in answer.json()["detail"]


async def test_a_folder_without_a_manifest_is_refused(world: World) -> None:
    answer = await world.client.post("/versions", content=archive({"agent.py": b""}))
    assert (answer.status_code, answer.json()["code"]) == (422, "no_manifest")


async def test_a_manifest_that_is_no_text_is_refused(world: World) -> None:
    answer = await world.client.post("/versions", content=archive({"agent.yaml": b"\xff\xfe"}))
    assert (answer.status_code, answer.json()["code"]) == (422, "manifest_invalid")


async def test_what_is_no_archive_is_refused(world: World) -> None:
    answer = await world.client.post("/versions", content=b"no archive")
    assert (answer.status_code, answer.json()["code"]) == (400, "bundle_invalid")


async def test_a_path_that_leaves_the_folder_is_refused(world: World) -> None:
    answer = await world.client.post("/versions", content=archive({"../outside.py": b""}))
    assert answer.json()["code"] == "bundle_invalid"
    assert leftovers(world) == []


async def test_an_upload_that_is_too_large_is_refused(database_url: str, tmp_path: Path) -> None:
    async with create_world(database_url, tmp_path, deployments=Deployments(source_limit=100)) as world:
        answer = await world.client.post("/versions", content=pack())
        assert (answer.status_code, answer.json()["code"]) == (413, "source_too_large")


async def test_only_an_upload_may_have_a_large_body(world: World) -> None:
    large = "x" * 2 * 1024 * 1024
    refused = await world.client.post("/deployments", json={"digest": large})
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    random = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(60_000))
    assert await world.upload(code=f"text = '{random}'\n")


async def test_versions_are_listed_in_pages_newest_first(world: World) -> None:
    made = []
    for number in range(3):
        world.clock.advance(1)
        made.append(await world.upload(code=f"number = {number}\n"))
    await world.upload("other")
    first = await world.get("/versions", agent="triage", limit=2)
    second = await world.get("/versions", agent="triage", limit=2, cursor=first["next"])
    assert [version["digest"] for version in first["items"] + second["items"]] == made[::-1]


async def test_a_cursor_that_is_not_ours_is_refused(world: World) -> None:
    answer = await world.client.get("/versions", params={"cursor": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "cursor_invalid")


def test_what_a_crash_left_of_an_upload_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "o-1" / "sources" / sources.UNFINISHED / "x"
    left.mkdir(parents=True)
    kept = tmp_path / "o-1" / "sources" / "d"
    kept.mkdir()
    sources.clear_unfinished(tmp_path)
    sources.clear_unfinished(tmp_path / "nowhere")
    assert (left.exists(), kept.exists()) == (False, True)


def leftovers(world: World) -> list[Path]:
    return list((world.home.sources(ORGANIZATION) / sources.UNFINISHED).iterdir())


def archive(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return target.getvalue()
