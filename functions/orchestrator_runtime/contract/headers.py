"""HTTP header names that the gateway, the runtime and callers share. Lower case, as ASGI has them."""

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
