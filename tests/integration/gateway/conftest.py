"""The event loops of the tests: of TLS, each has an implementation of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The standard library's for all, and for tests of TLS the gateway's own besides."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name == "test_tls.py":
        loops["uvloop"] = uvloop.new_event_loop
    return loops
