"""Spans of the API's requests and of agents' runs, sent by OTLP over HTTP to any collector.

Without an endpoint nothing is imported. Instances hand us theirs over the journal's connection: what they say about
themselves is not believed, and what does not fit the queue is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import Scope

from control_api.border import Span, no_span, route_template
from control_api.journal.tokens import Identity
from control_api.settings import Telemetry
from orchestrator_runtime.contract.spans import SERVER
from orchestrator_runtime.contract.spans import Span as AgentSpan

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanContext

SERVICE = "orchestrator-server"


def tracer_provider(settings: Telemetry) -> TracerProvider | None:
    """What exports spans, if `settings` name a collector; shut it down at the end, or the last ones are lost."""
    if not settings.otlp_endpoint:
        return None
    # Slow to import, and most installations on one machine have no collector.
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE}),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
    )
    provider.add_span_processor(_processor(settings.otlp_endpoint))
    return provider


def _processor(endpoint: str) -> BatchSpanProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces"))


class AgentSpans:
    """Sends what instances hand over, from a queue of its own: no agent's spans push ours out."""

    def __init__(self, endpoint: str) -> None:
        self._processor = _processor(endpoint)

    def take(self, identity: Identity, spans: list[AgentSpan]) -> None:
        """Send them soon, as those of the instance that `identity` is."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanKind, Status, StatusCode

        resource = Resource(
            {
                "service.name": identity.agent,
                "service.version": identity.revision,
                "service.instance.id": identity.instance,
                "orchestrator.organization": identity.organization,
            }
        )
        scope = InstrumentationScope("orchestrator_runtime")
        for span in spans:
            failed = Status(StatusCode.ERROR, span.error) if span.error is not None else Status()
            self._processor.on_end(
                ReadableSpan(
                    span.name,
                    _context(span.trace, span.id),
                    parent=_context(span.trace, span.parent) if span.parent else None,
                    resource=resource,
                    attributes=span.attributes,
                    kind=SpanKind.SERVER if span.kind == SERVER else SpanKind.INTERNAL,
                    status=failed,
                    start_time=span.began,
                    end_time=span.ended,
                    instrumentation_scope=scope,
                )
            )

    def shutdown(self) -> None:
        """Send the last ones."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def agent_spans(settings: Telemetry) -> AgentSpans | None:
    """What sends agents' spans, if `settings` name a collector."""
    return AgentSpans(settings.otlp_endpoint) if settings.otlp_endpoint else None


def _context(trace: str, span: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def request_spans(provider: TracerProvider | None) -> Span:
    """Opens a span per request, continuing the caller's trace (W3C)."""
    if provider is None:
        return no_span
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    tracer = provider.get_tracer(SERVICE)
    propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(scope: Scope, headers: Headers) -> Iterator[None]:
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with tracer.start_as_current_span(
            scope["method"], context=propagator.extract(headers), kind=SpanKind.SERVER, attributes=attributes
        ) as opened:
            yield
            opened.update_name(f"{scope['method']} {route_template(scope)}")

    return span
