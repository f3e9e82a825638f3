"""A deployment's live stream as one numbered history, told from what is stored of it. Pure.

Nothing but the build's log and the deployment's row is needed, because both only grow: its states come in one order,
and the log is complete before the state moves on. So a number means the same event for ever, also after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from control_api.deployments.schemas import DeploymentView
from control_api.streaming import ServerEvent
from domain.deployment import DeploymentState

FINAL = frozenset({DeploymentState.READY, DeploymentState.FAILED})


def history(deployment: DeploymentView, log: str) -> list[ServerEvent]:
    """Every event so far: `state` {state}, `log` {line}, and before the state `failed` the `problem`."""
    return [ServerEvent(kind, data, str(number)) for number, (kind, data) in enumerate(_told(deployment, log), 1)]


def _told(deployment: DeploymentView, log: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "state", {"state": DeploymentState.BUILDING.value}
    for line in log.split("\n")[:-1]:
        yield "log", {"line": line}
    if deployment.revision is not None:
        yield "state", {"state": DeploymentState.STARTING.value}
    if deployment.problem is not None:
        yield "problem", deployment.problem
    if deployment.state in FINAL:
        yield "state", {"state": deployment.state.value}
