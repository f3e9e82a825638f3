"""Spans of the API's requests, sent by OTLP over HTTP to any collector. Without an endpoint nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import Scope

from control_api.border import Span, no_span, route_template
from control_api.settings import Telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "orchestrator-server"


def tracer_provider(settings: Telemetry) -> TracerProvider | None:
    """What exports spans, if `settings` name a collector; shut it down at the end, or the last ones are lost."""
    if not settings.otlp_endpoint:
        return None
    # Slow to import, and most installations on one machine have no collector.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE}),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
    )
    exporter = OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


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
