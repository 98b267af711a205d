"""Limits how long a caller may keep the server waiting for a message."""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable
from itertools import takewhile

from grpc import aio

from killrvideo_grpc.domain.errors import DeadlineExceeded
from killrvideo_grpc.rpc.call import Context

LOOK_SECONDS = 1.0  # between two looks at which calls are overdue

Abort = Callable[[Context, BaseException], Awaitable[None]]


class Arrivals:
    """Ends calls whose next message does not arrive within `seconds`, by `abort`.

    One task looks at all waiting calls once a second: a timer for each read costs more than the read.
    """

    def __init__(self, seconds: float, abort: Abort) -> None:
        self._seconds = seconds
        self._abort = abort
        self._due: dict[Context, float] = {}  # in the order of their ends, as all wait equally long
        self._watcher: asyncio.Task[None] | None = None

    async def next(self, context: Context) -> bytes | None:
        """Returns the next message of a call, not deserialized; None: there are no more."""
        if self._watcher is None:
            # Without the context of the call that happens to be the first.
            self._watcher = asyncio.create_task(self._watch(), context=contextvars.Context())
        self._due[context] = time.monotonic() + self._seconds
        try:
            message = await context.read()
        finally:
            self._due.pop(context, None)
        return None if message is aio.EOF else message

    async def stop(self) -> None:
        """Ends all calls that wait for a message, which would otherwise keep the server from stopping."""
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
        # Each raises the exception that ends the call, in `next` too, or another if the caller left first.
        ending = (self._abort(context, DeadlineExceeded()) for context in contexts)
        await asyncio.gather(*ending, return_exceptions=True)
