"""The command line against a platform with TLS: it verifies whom it talks to, always."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.gateway.tls import Files
from tests.fakes.api_server import api_server
from tests.fakes.certificates import Authority
from tests.unit.cli.conftest import Orchestrator


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path)


def context(files: Files) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(files.certificate, files.key)
    return made


@pytest.fixture
def url(authority: Authority, monkeypatch: pytest.MonkeyPatch, orchestrator: Orchestrator) -> Iterator[str]:
    with api_server(tls=context(authority.issue("127.0.0.1"))) as served:
        monkeypatch.setenv("ORCHESTRATOR_URL", served.url)
        yield served.url


@pytest.mark.usefixtures("url")
def test_a_platform_is_trusted_by_the_authority_that_is_named(
    orchestrator: Orchestrator, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CA", str(authority.file))
    said = orchestrator("ls")
    assert (said.code, said.err) == (0, "")


def test_a_platform_of_an_unknown_authority_is_not_talked_to(orchestrator: Orchestrator, url: str) -> None:
    said = orchestrator("ls")
    assert said.code == 3
    assert f"Whoever answers at {url} could not be verified" in said.err
    assert "(certificate_untrusted)" in said.err
    assert "ORCHESTRATOR_CA" in said.err


def test_a_platform_under_a_name_that_is_not_its_own_is_not_talked_to(
    orchestrator: Orchestrator, authority: Authority, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CA", str(authority.file))
    monkeypatch.setenv("ORCHESTRATOR_URL", url.replace("127.0.0.1", "localhost"))
    said = orchestrator("ls")
    assert said.code == 3
    assert "(certificate_untrusted)" in said.err


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("content", [None, "words"])
def test_a_file_without_an_authority_is_refused(
    orchestrator: Orchestrator, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "other.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("ORCHESTRATOR_CA", str(file))
    said = orchestrator("ls")
    assert said.code == 1
    assert f"ORCHESTRATOR_CA: no certificates can be read from {file}" in said.err
    assert "(ca_invalid)" in said.err
