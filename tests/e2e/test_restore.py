"""A restore as after the loss of a database: from a backup, and from the key that was kept apart."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.platform import Installation, write_agent

CODE = """
import os

async def handle(input):
    return {"secret": len(os.environ["KEPT"]), "input": input}
"""


def test_a_backup_and_the_key_bring_everything_back(own_platform: Installation, tmp_path: Path) -> None:
    home = own_platform.home
    with own_platform.client() as client:
        client.put("/api/v1/secrets/KEPT", json={"value": "12345"}).raise_for_status()
        own_platform.deploy(write_agent(tmp_path / "kept", name="kept", code=CODE, manifest="secrets: [KEPT]\n"))
        answer = client.post("/agents/kept", json={"n": 1})
        assert answer.json() == {"secret": 5, "input": {"n": 1}}
        backup = Path(client.post("/api/v1/backups").json()["path"]).rename(tmp_path / "backup")
    own_platform.stop()
    kept_apart = (home / "master.key").rename(tmp_path / "master.key")
    for lost in (*home.glob("orchestrator.db*"), *home.glob("backups/*")):
        lost.unlink()
    own_platform.cli("restore", "--yes", str(backup), check=False)
    assert not (home / "orchestrator.db").exists(), "only the key that was kept apart opens it"
    kept_apart.rename(home / "master.key")
    own_platform.cli("restore", "--yes", str(backup))
    own_platform.start()
    with own_platform.client() as client:
        run = answer.headers["orchestrator-run"]
        assert client.get(f"{run}/output").json() == {"secret": 5, "input": {"n": 1}}
        assert client.post("/agents/kept", json={"n": 2}).json() == {"secret": 5, "input": {"n": 2}}
