"""One log line per call, with a request id that links it to other log lines and to the caller."""

import random
import re
import time
from typing import Any, ClassVar
from uuid import UUID

import structlog
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.tracing import TracingInterceptor

REQUEST_ID_HEADER = "x-request-id"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")  # too short for any of our tokens and codes
HEALTH_CHECKS = "/grpc.health.v1.Health/"  # load balancers call it every second

_log = structlog.get_logger()


class LoggingInterceptor:
    """Log method, code, duration in ms, request id and user id, but nothing from messages; health checks at DEBUG.

    A caller's `x-request-id` that doesn't match REQUEST_ID is replaced by a new UUID. The id is returned in the
    trailing metadata, and is part of every line that is logged during the call.
    """

    runs_after: ClassVar[tuple[type, ...]] = (TracingInterceptor,)  # which binds the trace id for the log line

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        log = _log.debug if method.startswith(HEALTH_CHECKS) else _log.info

        async def logged(call: Call) -> Any:
            started = time.perf_counter()
            call.request_id = request_id = _request_id(call)
            bind_contextvars(request_id=request_id)
            call.context.set_trailing_metadata(((REQUEST_ID_HEADER, request_id),))
            try:
                return await call_next(call)
            finally:
                duration = round((time.perf_counter() - started) * 1000, 3)
                log("call", method=method, code=call.code, duration_ms=duration)

        return logged


def _request_id(call: Call) -> str:
    for key, value in call.metadata:
        if key == REQUEST_ID_HEADER and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    # uuid4() would make a system call. The id need not be secret.
    return str(UUID(int=random.getrandbits(128), version=4))
