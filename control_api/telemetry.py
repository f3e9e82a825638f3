"""Spans of the API's requests, sent by OTLP over HTTP to any collector. Without an endpoint nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.types import Scope

from control_api.border import Span, no_span
from control_api.settings import Telemetry

SERVICE = "orchestrator-server"


def request_spans(settings: Telemetry) -> Span:
    """Opens a span per request, continuing the caller's trace (W3C), if `settings` name a collector."""
    if not settings.otlp_endpoint:
        return no_span
    # Slow to import, and most installations on one machine have no collector.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE}),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")))
    tracer = provider.get_tracer(SERVICE)
    propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(scope: Scope, headers: Headers) -> Iterator[None]:
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with tracer.start_as_current_span(
            scope["method"], context=propagator.extract(headers), kind=SpanKind.SERVER, attributes=attributes
        ) as opened:
            yield
            route = scope.get("route")
            if route is not None:
                opened.update_name(f"{scope['method']} {route.path}")

    return span
