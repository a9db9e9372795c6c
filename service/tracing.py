"""Traces of requests for an OpenTelemetry collector. Whether there is one, and whether it answers, no request notices:
spans are made when a request has been answered, and sent by a thread of its own.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.logs import Record

logger = logging.getLogger("attentive")

TRACES = "/v1/traces"
"""Where a collector takes traces over HTTP."""
SEND_S = 5
"""Longest that one sending may take, and that a stopping server gives what is still unsent."""


class Tracing:
    """A span for each request and its phases, once it is connected. A caller's ``traceparent`` is continued.

    What the standard ``OTEL_`` variables say of resource, sampling and batches holds. What goes wrong here ends the
    tracing, with a line in the log, and nothing else.
    """

    def __init__(self) -> None:
        self.provider: TracerProvider | None = None
        self.propagator = TraceContextTextMapPropagator()

    def connect(self, endpoint: str) -> None:
        """To a collector, by its address. The package for it is an extra."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

            self.start(OTLPSpanExporter(endpoint.rstrip("/") + TRACES, timeout=SEND_S))
        except Exception as error:  # noqa: BLE001 - whatever it is, the server serves
            logger.error("no traces are sent: %s; the extra `otel` has what is needed", error)

    def start(self, exporter: SpanExporter) -> None:
        resource = Resource.create({SERVICE_NAME: "attentive", SERVICE_VERSION: __version__})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = provider.get_tracer("attentive", __version__)
        self.provider = provider

    def trace(self, record: Record, headers: Mapping[str, str]) -> None:
        """Send the spans of an answered request, and note its trace."""
        if self.provider is None:
            return
        try:
            self._trace(record, headers)
        except Exception:
            logger.exception("no more traces are sent")
            self.provider = None

    def _trace(self, record: Record, headers: Mapping[str, str]) -> None:
        epoch = time.time() - time.perf_counter()

        def nanoseconds(moment: float) -> int:
            return int(1e9 * (epoch + moment))

        attributes: dict[str, str | int] = {
            "http.request.method": record.method,
            "http.route": record.route,
            "http.response.status_code": record.status,
            "http.request.body.size": record.bytes_in,
            "http.response.body.size": record.bytes_out,
            "attentive.request_id": record.request_id,
        }
        attributes |= {f"attentive.{name}": value for name, value in record.noted.items()}
        parent, name = self.propagator.extract(headers, Context()), f"{record.method} {record.route}"
        span = self.tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=nanoseconds(record.start))
        within = set_span_in_context(span, Context())
        for phase in record.phases:
            part = self.tracer.start_span(phase.name, within, start_time=nanoseconds(phase.start))
            part.end(nanoseconds(phase.end))
        if record.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(nanoseconds(record.end))
        record.trace_id = format_trace_id(span.get_span_context().trace_id)

    async def stop(self) -> None:
        """Send what is left, if that can be done in time."""
        if self.provider is not None:
            # Not asyncio's thread: the process would wait for it to the end.
            closing = threading.Thread(target=self.provider.shutdown, daemon=True)
            closing.start()
            await asyncio.to_thread(closing.join, SEND_S)
