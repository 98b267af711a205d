"""Limits how long the server waits for a call's message."""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable
from itertools import takewhile

from grpc import aio

from killrvideo_grpc.domain.errors import DeadlineExceeded
from killrvideo_grpc.rpc.call import Context

LOOK_SECONDS = 1.0  # between checks for overdue calls

Abort = Callable[[Context, BaseException], Awaitable[None]]


class Arrivals:
    """Ends calls whose next message does not arrive within `seconds`, using `abort`.

    One task checks all waiting calls once a second, because a timer per read would cost more than the read.
    """

    def __init__(self, seconds: float, abort: Abort) -> None:
        self._seconds = seconds
        self._abort = abort
        self._due: dict[Context, float] = {}  # in the order of the deadlines, because all waits are equally long
        self._watcher: asyncio.Task[None] | None = None

    async def next(self, context: Context) -> bytes | None:
        """Returns the bytes of a call's next message, or None if there are no more."""
        if self._watcher is None:
            # An empty context, so that the task does not run in the context of the first call.
            self._watcher = asyncio.create_task(self._watch(), context=contextvars.Context())
        self._due[context] = time.monotonic() + self._seconds
        try:
            message = await context.read()
        finally:
            self._due.pop(context, None)
        return None if message is aio.EOF else message

    async def stop(self) -> None:
        """Ends all calls that are waiting for a message; otherwise the server would wait for them when it stops."""
        await self._end(list(self._due))
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._end(list(takewhile(lambda context: self._due[context] <= time.monotonic(), self._due)))

    async def _end(self, contexts: list[Context]) -> None:
        for context in contexts:
            del self._due[context]
        # Each abort raises the exception that also ends the call in `next`, or another one if the caller left first.
        ending = (self._abort(context, DeadlineExceeded()) for context in contexts)
        await asyncio.gather(*ending, return_exceptions=True)
