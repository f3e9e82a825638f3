"""What the embedded platform asks of the rest of the server, answered as simply as possible and remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from local.platform import Callbacks
from orchestrator_runtime.contract.wire import Message


@dataclass(slots=True)
class Asked:
    submitted: list[Message] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    living: list[list[str]] = field(default_factory=list)
    renewed: list[list[str]] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)
    used: list[str] = field(default_factory=list)


def callbacks(asked: Asked | None = None) -> Callbacks:
    asked = asked or Asked()

    async def submit_run(message: Message) -> Message:
        asked.submitted.append(message)
        return Message({"run": "r-1", "state": "pending"})

    async def run_result(message: Message) -> Message:
        asked.results.append(message)
        return Message({"found": False})

    async def credentials(message: Message) -> Message:
        answer: dict[str, Any] = {"journal_token": f"token of {message.fields['instance']}", "expires": 1.0}
        return Message({**answer, "secrets": dict.fromkeys(message.fields["secrets"], "value")})

    async def instance_lost(instance: str, reason: str) -> None:
        asked.lost.append((instance, reason))

    async def instances_living(instances: list[str]) -> None:
        asked.living.append(instances)

    async def renew_leases(instances: list[str]) -> None:
        asked.renewed.append(instances)

    def changed(organization: str, agent: str) -> None:
        asked.changed.append((organization, agent))

    return Callbacks(
        submit_run=submit_run,
        run_result=run_result,
        credentials=credentials,
        instance_lost=instance_lost,
        instances_living=instances_living,
        renew_leases=renew_leases,
        changed=changed,
        credentials_used=asked.used.extend,
    )
