"""A limit of the calls that the process handles at once."""

from typing import Any, ClassVar

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor
from killrvideo_grpc.rpc.interceptors.receive import ReceiveInterceptor


class ConcurrencyLimitInterceptor:
    """Reject calls while `limit` others are being handled.

    Never reject methods of the services in `unlimited` (health checks must work under load), nor those that take a
    stream, which is idle most of the time.
    """

    # A call that waits for its message must not count: it only costs memory.
    runs_after: ClassVar[tuple[type, ...]] = (ErrorsInterceptor, ReceiveInterceptor)

    def __init__(self, limit: int, unlimited: frozenset[str]) -> None:
        self._limit = limit
        self._unlimited = unlimited
        self._in_progress = 0

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        if method.split("/")[1] in self._unlimited or handler.request_streaming:
            return call_next

        async def limited(call: Call) -> Any:
            if self._in_progress >= self._limit:
                raise Overloaded
            self._in_progress += 1
            try:
                return await call_next(call)
            finally:
                self._in_progress -= 1

        return limited
