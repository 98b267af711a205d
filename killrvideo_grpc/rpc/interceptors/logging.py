"""One log line a call, and the request id that ties it to other lines and to the caller."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import grpc
import structlog

from killrvideo_grpc.rpc.interceptors.interceptor import Continuation, Handler, Interceptor

REQUEST_ID = "x-request-id"
PROBES = "/grpc.health.v1.Health/"  # balancers ask every second, and fill the log
SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

_log = structlog.get_logger("killrvideo_grpc.calls")


class LoggingInterceptor(Interceptor):
    """Logs method, code, duration in ms, request id and user id; never anything that a message holds. Health at DEBUG.

    The request id is the caller's `x-request-id` when that is a sane one, else a new UUID, and goes back to the caller
    in the trailing metadata. All lines that are logged during the call carry it.
    """

    def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Logs a call of a method that does not exist too; grpcio answers that by itself, without running anything."""
        handler = super().intercept_service(continuation, handler_call_details)
        if handler is None:
            # Whoever takes this for REST may have put what is secret behind a question mark.
            method = handler_call_details.method.partition("?")[0]
            _log.info("call", method=ascii(method[:200]), code="UNIMPLEMENTED")
        return handler

    @contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        started = time.perf_counter()
        request_id = _request_id(context)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        try:
            yield
        finally:
            duration = round((time.perf_counter() - started) * 1000, 3)
            log = _log.debug if method.startswith(PROBES) else _log.info
            log("call", method=method, code=_final_code(context), duration_ms=duration)


def _request_id(context: grpc.ServicerContext) -> str:
    for key, value in context.invocation_metadata():
        if key == REQUEST_ID and isinstance(value, str) and SANE.fullmatch(value):
            return value
    return str(uuid4())


def _final_code(context: grpc.ServicerContext) -> str:
    code = context.code()  # type: ignore[attr-defined] # there since grpcio 1.45; its stubs do not say so
    if code is None:
        return "OK" if context.is_active() else "CANCELLED"
    return str(code.name)
