"""Limits how many attempts proceed at once, so that a burst of guesses is counted while it goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from killrvideo_grpc.domain.errors import Overloaded

MAX_WAITING = 256  # in total, for all keys; as many as may wait for a hash

Waits = Callable[[], AbstractContextManager[None]]


class Turns:
    """Lets at most `at_once` attempts with the same key proceed at once, in the order of their arrival.

    Each wait happens inside the context manager that `waits` returns. Keys that are not in use take no memory.
    """

    def __init__(self, at_once: int, waits: Waits = nullcontext) -> None:
        self._at_once = at_once
        self._waits = waits
        self._places: dict[Hashable, _Places] = {}
        self._waiting = 0

    @asynccontextmanager
    async def of(self, keys: Sequence[Hashable]) -> AsyncIterator[None]:
        """Holds a place for each key. Raises Overloaded if too many attempts are waiting.

        To avoid deadlocks, all callers must pass the kinds of keys in the same order.
        """
        async with AsyncExitStack() as stack:
            for key in keys:
                await stack.enter_async_context(self._place(key))
            yield

    @asynccontextmanager
    async def _place(self, key: Hashable) -> AsyncIterator[None]:
        places = self._places.setdefault(key, _Places(self._at_once))
        places.users += 1
        try:
            await self._take(places.free)
            try:
                yield
            finally:
                places.free.release()
        finally:
            places.users -= 1
            if not places.users:
                del self._places[key]

    async def _take(self, free: asyncio.Semaphore) -> None:
        if not free.locked():
            await free.acquire()
            return
        if self._waiting >= MAX_WAITING:
            raise Overloaded
        self._waiting += 1
        try:
            with self._waits():
                await free.acquire()
        finally:
            self._waiting -= 1


class _Places:
    """The places of one key, and how many attempts hold one or wait for one."""

    def __init__(self, count: int) -> None:
        self.free = asyncio.Semaphore(count)
        self.users = 0
