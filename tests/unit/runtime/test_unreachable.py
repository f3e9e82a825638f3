"""What an error of a connection has to do with the manifest's `network`."""

from __future__ import annotations

import errno
import socket

import pytest

from orchestrator_runtime import unreachable

NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def wrapped(error: Exception) -> Exception:
    """As clients wrap it: twice, once without saying that it is the cause."""
    inner, outer = ConnectionError("no connection"), RuntimeError("The model did not answer")
    inner.__cause__, outer.__context__ = error, inner
    return outer


@pytest.mark.parametrize("error", [NO_NAME, OSError(errno.ENETUNREACH, "Network is unreachable")])
@pytest.mark.parametrize(("network", "said"), [("none", "`network: none`"), ("hosts", "listed under `network`")])
def test_what_the_network_refuses_is_said_however_deep_it_is(error: Exception, network: str, said: str) -> None:
    assert said in unreachable.hint(error, network)
    assert said in unreachable.hint(wrapped(error), network)


def test_other_errors_and_an_agent_that_may_reach_all_have_no_such_hint() -> None:
    assert unreachable.hint(NO_NAME, "internet") == ""
    assert unreachable.hint(ValueError("no"), "none") == ""
    assert unreachable.hint(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "none") == ""
    assert unreachable.hint(None, "none") == ""


def test_a_chain_that_goes_round_ends() -> None:
    error = ValueError("round")
    error.__cause__ = error
    assert unreachable.hint(error, "none") == ""
