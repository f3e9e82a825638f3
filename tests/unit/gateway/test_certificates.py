"""Which certificates and keys are refused and why, what is served, and what happens when the files are written anew."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from control_api.settings import read_settings as read_server_settings
from local.gateway.certificates import Renewed, load
from local.gateway.settings import Limits, read_settings
from local.gateway.tls import CERTIFICATE, KEY, Certificate, Files, address_of, serving
from orchestrator_runtime.contract.errors import BadInput
from tests.fakes.certificates import DAY, Authority, pem

NOW = datetime.now(UTC)


class Today:
    """A clock of which only the date is asked; `monotonic` is for whoever needs a whole one."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path)


def refused(files: Files) -> str:
    with pytest.raises(BadInput) as caught:
        load(files, now=NOW)
    assert caught.value.code == "tls_invalid"
    return caught.value.detail


def test_a_good_certificate_says_for_whom_and_how_long_it_is(authority: Authority) -> None:
    certificate = load(authority.issue("agents.example", "127.0.0.1", end=NOW + 30 * DAY), now=NOW)
    assert certificate.names == ("agents.example", "127.0.0.1")
    assert abs(certificate.expires - NOW - 30 * DAY) < timedelta(seconds=1)


def test_an_expired_certificate_is_refused_with_its_date(authority: Authority) -> None:
    files = authority.issue("a.example", start=NOW - 9 * DAY, end=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    assert refused(files) == f"{CERTIFICATE}: it has expired on 2026-01-02 03:04 UTC"


def test_a_certificate_of_the_future_is_refused(authority: Authority) -> None:
    assert "it is not valid before" in refused(authority.issue("a.example", start=NOW + DAY))


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = authority.issue("a.example"), authority.issue("a.example", file="other")
    assert "does not belong to the certificate" in refused(Files(one.certificate, other.key))


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(authority: Authority) -> None:
    files = authority.issue("a.example")
    files.key.write_bytes(pem(generate_private_key(SECP256R1()), passphrase=b"secret"))
    assert "is encrypted; give it without a passphrase" in refused(files)


def test_a_certificate_that_names_no_host_is_refused(authority: Authority) -> None:
    assert "it names no host" in refused(authority.issue())


def test_files_that_hold_something_else_or_are_not_there_are_named(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue("a.example")
    nothing = tmp_path / "nothing"
    assert refused(Files(nothing, files.key)) == f"{CERTIFICATE}: {nothing} cannot be read: No such file or directory"
    assert refused(Files(files.certificate, nothing)).startswith(f"{KEY}: {nothing} cannot be read")
    nothing.write_text("words")
    assert "there is no certificate in PEM form" in refused(Files(nothing, files.key))
    assert "there is no private key in PEM form" in refused(Files(files.certificate, nothing))
    assert "there is no private key in PEM form" in refused(Files(files.certificate, files.certificate))


def test_one_of_the_two_variables_alone_is_refused() -> None:
    with pytest.raises(BadInput, match=f"{KEY}: it is not set"):
        serving({CERTIFICATE: "/c"}, host="127.0.0.1", now=NOW)
    with pytest.raises(BadInput, match=f"{CERTIFICATE}: it is not set"):
        serving({KEY: "/k"}, host="127.0.0.1", now=NOW)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_an_address_that_others_reach_is_served_by_tls_alone(host: str) -> None:
    with pytest.raises(BadInput) as caught:
        serving({}, host=host, now=NOW)
    assert caught.value.code == "tls_required"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1"])
def test_the_loopback_needs_none(host: str) -> None:
    assert serving({}, host=host, now=NOW) is None


@pytest.mark.parametrize(
    ("names", "host", "url"),
    [
        (None, "127.0.0.1", "http://127.0.0.1:4100"),
        (None, "::1", "http://[::1]:4100"),
        (("a.example", "127.0.0.1"), "127.0.0.1", "https://127.0.0.1:4100"),
        (("a.example", "127.0.0.1"), "0.0.0.0", "https://127.0.0.1:4100"),
        (("a.example", "localhost"), "127.0.0.1", "https://localhost:4100"),
        (("*.example", "a.example"), "0.0.0.0", "https://a.example:4100"),
        (("*.example",), "127.0.0.1", "https://127.0.0.1:4100"),
        (("2001:db8::1",), "::", "https://[2001:db8::1]:4100"),
    ],
)
def test_the_address_is_one_that_the_certificate_is_for(
    names: tuple[str, ...] | None, host: str, url: str, authority: Authority
) -> None:
    certificate = None
    if names is not None:
        context = load(authority.issue("a.example"), now=NOW).context
        certificate = Certificate(context, names, NOW)
    assert address_of(certificate, host=host, port=4100) == url


def test_files_that_are_gone_when_the_gateway_starts_are_named(authority: Authority) -> None:
    files = authority.issue("a.example")
    for path, variable in ((files.key, KEY), (files.certificate, CERTIFICATE)):
        path.unlink()
        with pytest.raises(BadInput, match=f"{variable}: {path} cannot be read") as caught:
            Renewed(files, clock=Today())
        assert caught.value.code == "tls_invalid"


def test_renewed_files_are_taken_over_without_a_restart(authority: Authority) -> None:
    certificate = Renewed(authority.issue("a.example"), clock=Today())
    before = certificate.current
    certificate.look()
    assert certificate.current is before
    authority.issue("b.example")
    certificate.look()
    assert certificate.current.names == ("b.example",)
    assert certificate.current.context is not before.context


def test_a_renewal_that_is_wrong_or_half_done_is_logged_once_and_changes_nothing(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.issue("a.example")
    certificate = Renewed(files, clock=Today())
    other = authority.issue("b.example", file="other")
    files.certificate.write_bytes(other.certificate.read_bytes())
    with caplog.at_level(logging.ERROR):
        certificate.look()
        certificate.look()
    assert [record.getMessage() for record in caplog.records] == [
        f"The certificate is not replaced: {KEY}: the key in {files.key} does not belong to the certificate in "
        f"{files.certificate}"
    ]
    assert certificate.current.names == ("a.example",)
    os.replace(other.key, files.key)  # noqa: PTH105 - the second half of the renewal
    certificate.look()
    assert certificate.current.names == ("b.example",)


def test_files_that_are_gone_for_a_moment_change_nothing(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.issue("a.example")
    certificate = Renewed(files, clock=Today())
    files.key.unlink()
    certificate.look()
    certificate.look()
    assert len(caplog.records) == 1
    assert certificate.current.names == ("a.example",)


def test_the_end_of_a_certificate_is_announced_once_a_day(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Today()
    certificate = Renewed(authority.issue("a.example", end=NOW + 15 * DAY), clock=clock)
    for hours in (0, 30, 31, 60):
        clock.moment = NOW + timedelta(hours=hours)
        certificate.look()
    assert [record.getMessage()[:27] for record in caplog.records] == ["The certificate expires on "] * 2


def test_server_and_gateway_read_the_same_limits_and_have_the_same_defaults(tmp_path: Path) -> None:
    def both(environ: dict[str, str]) -> tuple[dict[str, object], dict[str, object]]:
        server = read_server_settings({**environ, "ORCHESTRATOR_HOME": str(tmp_path)}).limits.model_dump()
        gateway = read_settings({**environ, "ORCHESTRATOR_HOME": str(tmp_path), "ORCHESTRATOR_LISTEN_FD": "0"}).limits
        server["exempt"] = tuple(server["exempt"].split())
        found: dict[str, object] = {name: getattr(gateway, name) for name in server}
        found["exempt"] = tuple(str(network).removesuffix("/128") for network in gateway.exempt)
        return server, found

    server, gateway = both({})
    assert server == gateway
    assert Limits() == read_settings({"ORCHESTRATOR_HOME": "/", "ORCHESTRATOR_LISTEN_FD": "0"}).limits
    server, gateway = both({"ORCHESTRATOR_LIMITS_ADDRESS_RATE": "7", "ORCHESTRATOR_LIMITS_EXEMPT": "10.0.0.0/8"})
    assert server == gateway
    assert gateway["address_rate"] == 7.0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ORCHESTRATOR_HOST", "example.com"),
        ("ORCHESTRATOR_LIMITS_EXEMPT", "everybody"),
        ("ORCHESTRATOR_LIMITS_ADDRESS_RATE", "-1"),
    ],
)
def test_a_wrong_setting_of_the_edge_is_refused_by_name(variable: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"^{variable}: "):
        read_server_settings({"ORCHESTRATOR_HOME": str(tmp_path), variable: value})
