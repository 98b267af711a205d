"""Limits how many attempts proceed at once, so that a burst of guesses is counted while it goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from killrvideo_grpc.domain.errors import Overloaded

# Attempts that may wait with one key. Not a total for all keys: a flood from one source would use it up for everybody.
MAX_WAITING = 128

Waits = Callable[[], AbstractContextManager[None]]


class Turns:
    """Lets at most `at_once` attempts with the same key proceed at once, in the order of their arrival.

    Each wait happens inside the context manager that `waits` returns. Keys that are not in use take no memory.
    """

    def __init__(self, at_once: int, waits: Waits = nullcontext) -> None:
        self._at_once = at_once
        self._waits = waits
        self._places: dict[Hashable, _Places] = {}

    @asynccontextmanager
    async def of(self, keys: Sequence[Hashable]) -> AsyncIterator[None]:
        """Hold a place for each key. Raises Overloaded if too many attempts wait for one of them.

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
            await self._take(places)
            try:
                yield
            finally:
                places.free.release()
        finally:
            places.users -= 1
            if not places.users:
                del self._places[key]

    async def _take(self, places: "_Places") -> None:
        if not places.free.locked():
            await places.free.acquire()
            return
        if places.users > self._at_once + MAX_WAITING:
            raise Overloaded
        with self._waits():
            await places.free.acquire()


class _Places:
    """The places of one key, and how many attempts hold one or wait for one."""

    def __init__(self, count: int) -> None:
        self.free = asyncio.Semaphore(count)
        self.users = 0
