"""A semaphore for each key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from killrvideo_grpc.domain.errors import Overloaded

# Per key: a flood from one source could use up a common limit.
MAX_WAITING = 128

Wait = Callable[[], AbstractContextManager[None]]


class KeyedSemaphore:
    """A first-come semaphore with `permits` for each key. Unused keys take no memory.

    Callers wait inside the context manager that `wait` returns.
    """

    def __init__(self, permits: int, wait: Wait = nullcontext) -> None:
        self._permits = permits
        self._wait = wait
        self._entries: dict[Hashable, _Entry] = {}

    @asynccontextmanager
    async def acquire(self, keys: Sequence[Hashable]) -> AsyncIterator[None]:
        """Hold a permit for each key. Raise Overloaded if too many callers wait for one of them.

        To avoid deadlocks, all callers must pass kinds of keys in the same order.
        """
        async with AsyncExitStack() as stack:
            for key in keys:
                await stack.enter_async_context(self._permit(key))
            yield

    @asynccontextmanager
    async def _permit(self, key: Hashable) -> AsyncIterator[None]:
        entry = self._entries.setdefault(key, _Entry(self._permits))
        entry.users += 1
        try:
            await self._enter(entry)
            try:
                yield
            finally:
                entry.semaphore.release()
        finally:
            entry.users -= 1
            if not entry.users:
                del self._entries[key]

    async def _enter(self, entry: "_Entry") -> None:
        if not entry.semaphore.locked():
            await entry.semaphore.acquire()
            return
        if entry.users > self._permits + MAX_WAITING:
            raise Overloaded
        with self._wait():
            await entry.semaphore.acquire()


class _Entry:
    """The semaphore of one key, and how many callers hold a permit or wait for one."""

    def __init__(self, permits: int) -> None:
        self.semaphore = asyncio.Semaphore(permits)
        self.users = 0
