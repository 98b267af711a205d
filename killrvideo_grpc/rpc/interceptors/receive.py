"""Reading the bytes of a call's message, and the limit of how long the server waits for them."""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator
from itertools import takewhile
from typing import Any, ClassVar, NoReturn

import grpc
from grpc import aio

from killrvideo_grpc.domain.errors import DeadlineExceeded, InvalidRequest, Violation
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor, abort

CHECK_INTERVAL = 1.0  # seconds between checks for overdue calls


class ReceiveInterceptor:
    """Wait for the message, at most `timeout` seconds. Methods that take a stream get an iterator over its messages.

    One task checks all waiting calls: a timer per read would cost more than the read.
    """

    runs_after: ClassVar[tuple[type, ...]] = (ErrorsInterceptor,)

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadlines: dict[Call, float] = {}  # in ascending order: all timeouts are equal
        self._checking: asyncio.Task[None] | None = None

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        async def received(call: Call) -> Any:
            call.message = await self._read(call)
            if call.message is None:
                await _abort_without_message(call)
            return await call_next(call)

        async def streamed(call: Call) -> Any:
            async def messages() -> AsyncIterator[bytes]:
                while (message := await self._read(call)) is not None:
                    yield message

            call.message = messages()
            return await call_next(call)

        return streamed if handler.request_streaming else received

    async def end_waits(self) -> None:
        """End all calls that wait for a message. A stopping server would wait for them."""
        await self._end(list(self._deadlines))
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])

    async def _read(self, call: Call) -> bytes | None:
        """Return the bytes of the next message, or None if there are no more."""
        if self._checking is None:
            # An empty context: the task does not belong to the first call.
            self._checking = asyncio.create_task(self._check(), context=contextvars.Context())
        self._deadlines[call] = time.monotonic() + self._timeout
        try:
            message = await call.context.read()
        finally:
            self._deadlines.pop(call, None)
        return None if message is aio.EOF else message

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            await self._end(list(takewhile(lambda call: self._deadlines[call] <= time.monotonic(), self._deadlines)))

    async def _end(self, calls: list[Call]) -> None:
        for call in calls:
            del self._deadlines[call]
        # Each abort raises: AbortError, which `read` raises too, or another error if the caller left first.
        await asyncio.gather(*(abort(call, DeadlineExceeded()) for call in calls), return_exceptions=True)


async def _abort_without_message(call: Call) -> NoReturn:
    try:
        await abort(call, InvalidRequest([Violation("", "is missing: this method takes one message")]))
    except (aio.InternalError, asyncio.CancelledError):
        # The call has ended: grpcio rejected a message over its limit. A caller that hangs up looks the same.
        call.reason = None
        call.context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)  # for the log and metrics
        raise
