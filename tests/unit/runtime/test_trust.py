"""Transports of httpx share the default trust store's context, and nothing else."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest

from orchestrator_runtime.frameworks.trust import share


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    transports: Any = httpx.HTTPTransport.__init__.__globals__
    monkeypatch.setitem(transports, "create_ssl_context", httpx.create_ssl_context)  # put back at the end
    share("httpx")


def context_of(**options: Any) -> ssl.SSLContext:
    transport = httpx.HTTPTransport(**options)
    found = transport._pool._ssl_context
    assert isinstance(found, ssl.SSLContext)
    return found


def test_all_transports_with_the_default_store_share_one_context() -> None:
    assert context_of() is context_of()
    assert context_of() is httpx.AsyncHTTPTransport()._pool._ssl_context
    assert context_of().verify_mode == ssl.CERT_REQUIRED


def test_a_transport_that_asks_for_something_of_its_own_gets_it() -> None:
    own = ssl.create_default_context()
    assert context_of(verify=own) is own
    assert context_of(verify=False) is not context_of()
    assert context_of(verify=False).verify_mode == ssl.CERT_NONE


def test_another_trust_store_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = context_of()
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
    assert context_of() is not before


def test_a_client_that_is_not_imported_is_left_alone() -> None:
    share("a_client_that_nobody_has")
