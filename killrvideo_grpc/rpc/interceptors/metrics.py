"""The metrics of calls, by method, code and reason."""

import time
from typing import Any, ClassVar

from killrvideo_grpc.domain.instrumentation import Instrumentation
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.service.service_authentication import ServicePrincipal

UNKNOWN = "unknown"  # the label of all methods that don't exist


class MetricsInterceptor:
    """Report each call to the instrumentation's meter. Adds no step if metrics are disabled."""

    runs_after: ClassVar[tuple[type, ...]] = ()

    def __init__(self, instrumentation: Instrumentation) -> None:
        self._instrumentation = instrumentation

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        meter = self._instrumentation.call_meter(_label(method, handler))
        if meter is None:
            return call_next

        async def measured(call: Call) -> Any:
            started = time.perf_counter()
            meter.call_started()
            try:
                return await call_next(call)
            finally:
                service = call.principal.actor if isinstance(call.principal, ServicePrincipal) else None
                meter.call_ended(call.code, call.reason, time.perf_counter() - started, service)

        return measured


def _label(method: str, handler: Handler) -> str:
    if handler is None:
        return UNKNOWN
    return method.rpartition("/")[2] if method.startswith("/killrvideo.") else method.removeprefix("/")
