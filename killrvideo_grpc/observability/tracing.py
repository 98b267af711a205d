"""OpenTelemetry traces, sent to a collector over OTLP. Needs `pip install killrvideo-grpc[otel]`.

Span names are fixed, and no attribute comes from a caller: no names, addresses or ids of people, and no exception
messages, which may quote them.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

import grpc
from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, get_current_span, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from killrvideo_grpc.domain.instrumentation import NOOP, CallMeter, CallTracer, Instrumentation

SERVICE_NAME = "killrvideo-grpc"
FLUSH_TIMEOUT = 2.0
# Codes that are errors of the server according to OpenTelemetry's conventions. The others are the caller's errors.
SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


def otlp_processor(endpoint: str) -> SpanProcessor:
    """Return a processor that sends spans to a collector in the background, and drops them if it can't keep up."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces"))


class Tracing(Instrumentation):
    """Spans, in addition to what `metrics` records. The SDK reads further OTEL_ variables itself."""

    def __init__(self, processor: SpanProcessor, metrics: Instrumentation = NOOP) -> None:
        self._metrics = metrics
        self._provider = TracerProvider(
            # OTEL_SERVICE_NAME overrides our name.
            resource=Resource.create({"service.name": SERVICE_NAME}).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("killrvideo_grpc")
        self._propagator = TraceContextTextMapPropagator()

    def start_export(self) -> None:
        self._metrics.start_export()

    async def stop_export(self) -> None:
        """Send the remaining spans, within FLUSH_TIMEOUT."""
        await self._metrics.stop_export()
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                pass  # the loop has closed

        # A daemon thread: a collector that doesn't answer can't keep the process from ending.
        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await done.wait()
        except TimeoutError:
            pass

    def call_meter(self, method: str) -> CallMeter | None:
        return self._metrics.call_meter(method)

    def call_tracer(self, method: str) -> CallTracer:
        name = method.removeprefix("/")
        service, _, rpc = name.partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": rpc}

        @contextmanager
        def trace(traceparent: str | None) -> Iterator[_CallSpan]:
            carrier = {"traceparent": traceparent} if traceparent else {}
            parent = self._propagator.extract(carrier, otel_context.Context())
            span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
            with _current(span):
                yield _CallSpan(span)

        return trace

    @contextmanager
    def hash_wait(self) -> Iterator[None]:
        with self._span("wait to hash"), self._metrics.hash_wait():
            yield

    @contextmanager
    def password_hash(self) -> Iterator[None]:
        with self._span("hash password"), self._metrics.password_hash():
            yield

    @contextmanager
    def store_request(self, kind: str) -> Iterator[None]:
        with self._span(f"store: {kind}", SpanKind.CLIENT), self._metrics.store_request(kind):
            yield

    @contextmanager
    def lookup(self) -> Iterator[None]:
        with self._span("store: look up"), self._metrics.lookup():
            yield

    def trace_headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def store_timeout(self, kind: str) -> None:
        self._metrics.store_timeout(kind)

    def batch_sent(self, lookups: int) -> None:
        self._metrics.batch_sent(lookups)

    def certificate_loaded(self, expiry: datetime) -> None:
        self._metrics.certificate_loaded(expiry)

    def sweep_done(self, found: int | None) -> None:
        self._metrics.sweep_done(found)

    @contextmanager
    def _span(self, name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[None]:
        if not get_current_span().get_span_context().is_valid:
            yield  # not part of one call: health, the sweep, or a request shared by several calls
            return
        span = self._tracer.start_span(name, kind=kind)
        with _current(span):
            try:
                yield
            except BaseException as error:
                # Only the type, and no error status: some are expected, such as an address that is taken.
                span.set_attribute("error.type", type(error).__name__)
                raise


class _CallSpan:
    def __init__(self, span: Span) -> None:
        self._span = span
        self.trace_id = format_trace_id(span.get_span_context().trace_id)

    def set_code(self, code: str) -> None:
        self._span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
        if code in SERVER_ERRORS:
            self._span.set_status(Status(StatusCode.ERROR))


def _current(span: Span) -> AbstractContextManager[Span]:
    return use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)
