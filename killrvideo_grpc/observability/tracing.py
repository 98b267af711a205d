"""OpenTelemetry traces, sent to a collector over OTLP. Needs `pip install killrvideo-grpc[otel]`.

Span names are fixed, and no attribute comes from a caller: no names, addresses or ids of people, and no exception
messages, which may quote them.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, get_current_span, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.instrumentation import Observer
from killrvideo_grpc.rpc.call import Call, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.logging import final_code

SERVICE_NAME = "killrvideo-grpc"
TRACED = "/killrvideo."  # health checks and reflection would only be noise
TRACEPARENT = "traceparent"  # but not tracestate, in which a caller can put anything
FLUSH_SECONDS = 2.0
# Codes that are errors of the server according to OpenTelemetry's conventions. The others are the caller's errors.
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


def otlp_processor(endpoint: str) -> SpanProcessor:
    """Returns a processor that sends spans to a collector in the background, and drops them if it can't keep up."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces"))


class Traces(Observer):
    """Makes spans. Also an interceptor, for the span of the call. The SDK reads further OTEL_ variables itself."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(
            # OTEL_SERVICE_NAME overrides our name.
            resource=Resource.create({"service.name": SERVICE_NAME}).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("killrvideo_grpc")
        self._propagator = TraceContextTextMapPropagator()

    async def stop(self) -> None:
        """Sends the remaining spans, within FLUSH_SECONDS."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                pass  # too late: the loop has closed

        # A daemon thread, so that a collector that doesn't answer can't keep the process from ending.
        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await done.wait()
        except TimeoutError:
            pass

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        if handler is None or not method.startswith(TRACED):
            return proceed
        service, _, name = method[1:].partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}

        async def traced(call: Call) -> Any:
            parent = self._propagator.extract(_carrier(call), otel_context.Context())
            span = self._tracer.start_span(method[1:], parent, SpanKind.SERVER, attributes)
            bind_contextvars(trace_id=format_trace_id(span.get_span_context().trace_id))
            cancelled = False
            with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                try:
                    return await proceed(call)
                except asyncio.CancelledError:
                    cancelled = True
                    raise
                finally:
                    _end(span, final_code(call.context, cancelled))

        return traced

    @contextmanager
    def waits_for_hash(self) -> Iterator[None]:
        with self._span("wait for a hashing thread", SpanKind.INTERNAL):
            yield

    @contextmanager
    def hashes(self) -> Iterator[None]:
        with self._span("hash password", SpanKind.INTERNAL):
            yield

    @contextmanager
    def looks_up(self) -> Iterator[None]:
        with self._span("store: look up", SpanKind.INTERNAL):
            yield

    @contextmanager
    def asks_store(self, kind: str) -> Iterator[None]:
        with self._span(f"store: {kind}", SpanKind.CLIENT):
            yield

    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    @contextmanager
    def _span(self, name: str, kind: SpanKind) -> Iterator[None]:
        if not get_current_span().get_span_context().is_valid:
            yield  # not part of one call: health, the sweep, or a request shared by several calls
            return
        span = self._tracer.start_span(name, kind=kind)
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except BaseException as error:
                # Only the type, and no error status: some are expected, such as an address that is taken.
                span.set_attribute("error.type", type(error).__name__)
                raise


def _carrier(call: Call) -> dict[str, str]:
    for key, value in call.metadata:
        if key == TRACEPARENT and isinstance(value, str):
            return {TRACEPARENT: value}
    return {}


def _end(span: Span, code: str) -> None:
    span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
    if code in FAULTS:
        span.set_status(Status(StatusCode.ERROR))
