"""A span for each call, as part of the caller's trace if it sends one."""

from typing import Any, ClassVar

from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.instrumentation import Instrumentation
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler

TRACED = "/killrvideo."  # health checks and reflection would only be noise
TRACEPARENT = "traceparent"  # but not tracestate, in which a caller can put anything


class TracingInterceptor:
    """Open a span for each call of the contract's methods. Adds no step if tracing is disabled."""

    runs_after: ClassVar[tuple[type, ...]] = ()

    def __init__(self, instrumentation: Instrumentation) -> None:
        self._instrumentation = instrumentation

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        is_traced = handler is not None and method.startswith(TRACED)
        tracer = self._instrumentation.call_tracer(method) if is_traced else None
        if tracer is None:
            return call_next

        async def traced(call: Call) -> Any:
            with tracer(_traceparent(call)) as span:
                bind_contextvars(trace_id=span.trace_id)
                try:
                    return await call_next(call)
                finally:
                    span.set_code(call.code)

        return traced


def _traceparent(call: Call) -> str | None:
    return next((value for key, value in call.metadata if key == TRACEPARENT and isinstance(value, str)), None)
