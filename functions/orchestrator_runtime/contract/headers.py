"""HTTP header names that the gateway, the runtime and callers share, and which fields go on or stay with a run.

Lower case, as ASGI has them.
"""

from __future__ import annotations

from collections.abc import Iterable

RUN_ADDRESS = "orchestrator-run"  # response: /api/v1/runs/ID
RUN_ID = "orchestrator-run-id"  # gateway -> instance: the identity this call gets if it has no Idempotency-Key
RUN_ATTEMPT = "orchestrator-run-attempt"  # response
DISPATCH = "orchestrator-dispatch"  # gateway -> instance: "1" when the server sends a run that is already recorded
CALL_TOKEN = "orchestrator-call-token"  # noqa: S105 - the header's name; proves that the platform makes this call
PROBE = "orchestrator-probe"  # gateway -> instance: "1" when it only asks whether the event loop turns (204)
CALLER = "orchestrator-caller"  # gateway -> instance: who calls, for the journal
SESSION = "orchestrator-session"
CORRELATION_ID = "x-correlation-id"
IDEMPOTENCY_KEY = "idempotency-key"
PREFER = "prefer"
TRACEPARENT = "traceparent"
REVISION = "orchestrator-revision"  # response: which revision answered

INTERNAL_PREFIX = "orchestrator-"
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    "upgrade http2-settings content-length".split()
)
WRITTEN_BY_US = frozenset(  # or by nobody: a program that maps names to variables would take `proxy` for HTTP_PROXY
    "host expect proxy forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip "
    "x-correlation-id".split()
)
NOT_KEPT = HOP_BY_HOP | WRITTEN_BY_US | {"authorization", "cookie", "content-type"}
KEPT_BYTES = 16 * 1024  # of names and values of one request


def kept(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The fields that are recorded with a run, so that later attempts have them too; the last one of a name.

    Credentials and what belongs to one connection, or is written by the platform, is not kept; nor is what comes
    after `KEPT_BYTES`, nor the content type, which is recorded with the request. Names are lower case.
    """
    found: dict[str, str] = {}
    room = KEPT_BYTES
    for name, value in fields:
        plain = name.replace("_", "-")  # the same to programs that map names to variables
        if plain in NOT_KEPT or (plain.startswith(INTERNAL_PREFIX) and name != SESSION):
            continue
        room -= len(name) + len(value)
        if room < 0:
            break
        found[name] = value
    return found
