"""Limits how long a caller may keep the server waiting for a message."""

import asyncio
from collections.abc import Awaitable, Callable

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

    @property
    def awaited(self) -> int:
        """How many calls are waiting for a message."""
        return len(self._due)

    async def next(self, context: Context) -> bytes | None:
        """Returns the next message of a call, not deserialized; None: there are no more."""
        loop = asyncio.get_running_loop()
        if self._watcher is None:
            self._watcher = loop.create_task(self._watch(loop))
        self._due[context] = loop.time() + self._seconds
        try:
            message = await context.read()
        finally:
            self._due.pop(context, None)
        return None if message is aio.EOF else message

    async def stop(self) -> None:
        """Stops watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            overdue = []
            for context, due in self._due.items():
                if due > now:
                    break
                overdue.append(context)
            for context in overdue:
                self._due.pop(context, None)
            # Each ends with the exception that ended the call, in `next` too, or with another if the caller left first.
            await asyncio.gather(
                *(self._abort(context, DeadlineExceeded()) for context in overdue), return_exceptions=True
            )
