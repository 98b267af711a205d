"""Password hashes, with bcrypt."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.security.hashing_process import cost_of

MAX_WAITING = 256  # half a minute of hashing at the default cost, on two idle cores


class HashingPool(Protocol):
    """Runs the methods of `Bcrypt` off the event loop."""

    async def run(self, method: str, *arguments: str | None) -> str | bool:
        """Return what the method returns. Raise Overloaded if that isn't possible."""

    async def close(self) -> None:
        """Release everything. Calls in progress may fail."""


class BcryptHasher:
    """Implements `PasswordHasher` with up to `max_concurrent` hashes at a time. `rounds` is bcrypt's cost."""

    def __init__(
        self, rounds: int, pool: HashingPool, max_concurrent: int, instrumentation: Instrumentation = NOOP
    ) -> None:
        self._rounds = rounds
        self._pool = pool
        self._instrumentation = instrumentation
        self._permits = asyncio.Semaphore(max_concurrent)
        self._max_pending = max_concurrent + MAX_WAITING
        self._pending = 0

    async def hash(self, password: str) -> str:
        """Return a `$2b$` hash."""
        return str(await self._run(lambda: None, "hash", password))

    async def verify(
        self, password: str, password_hash: str | None, on_start: Callable[[], None] = lambda: None
    ) -> bool:
        """Check a password against a `$2a$`, `$2b$` or `$2y$` hash.

        Reject passwords that bcrypt would cut: over 72 bytes, or with a NUL.
        """
        return await self._run(on_start, "verify", password, password_hash) is True

    def needs_rehash(self, password_hash: str) -> bool:
        return cost_of(password_hash) != self._rounds

    async def close(self) -> None:
        """End the hashing."""
        await self._pool.close()

    async def _run(self, on_start: Callable[[], None], method: str, *arguments: str | None) -> str | bool:
        if self._pending >= self._max_pending:
            raise Overloaded
        self._pending += 1
        try:
            with self._instrumentation.hash_wait():
                await self._permits.acquire()
            try:
                on_start()
                with self._instrumentation.password_hash():
                    return await self._pool.run(method, *arguments)
            finally:
                self._permits.release()
        finally:
            self._pending -= 1
