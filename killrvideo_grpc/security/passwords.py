"""Password hashes, with bcrypt."""

import asyncio
import os
import re
import secrets
import string
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation

MAX_BYTES = 72  # bcrypt ignores the rest
ALPHABET = string.ascii_letters + string.digits + "./"  # bcrypt's base64
HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
MAX_WAITING = 256  # half a minute of hashing at the default cost, on two cores
LOWEST_PRIORITY = 19

T = TypeVar("T")


class BcryptHasher:
    """Implements `PasswordHasher`, on `threads` threads of the lowest priority.

    Each step of `rounds`, bcrypt's cost, doubles the work (12: about 240 ms of CPU).
    """

    def __init__(self, rounds: int, threads: int, instrumentation: Instrumentation = NOOP) -> None:
        self._rounds = rounds
        self._instrumentation = instrumentation
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt", initializer=_lower_priority)
        self._free_threads = asyncio.Semaphore(threads)
        self._max_pending = threads + MAX_WAITING
        self._pending = 0
        # Checked in place of the hash of an unknown account. Nobody knows its password.
        self._dummy_hash = bcrypt.gensalt(rounds).decode() + "".join(secrets.choice(ALPHABET) for _ in range(31))

    async def hash(self, password: str) -> str:
        """Return a `$2b$` hash."""
        return await self._run(lambda: self._hash(password.encode(), self._rounds))

    async def verify(
        self, password: str, password_hash: str | None, on_start: Callable[[], None] = lambda: None
    ) -> bool:
        """Check a password against a `$2a$`, `$2b$` or `$2y$` hash.

        Reject passwords that bcrypt would cut: over 72 bytes, or with a NUL.
        """
        return await self._run(lambda: self._verify(password.encode(), password_hash), on_start)

    def needs_rehash(self, password_hash: str) -> bool:
        return _cost(password_hash) != self._rounds

    def close(self) -> None:
        """Wait for the hashes in progress and end the threads."""
        self._threads.shutdown()

    async def _run(self, work: Callable[[], T], on_start: Callable[[], None] = lambda: None) -> T:
        if self._pending >= self._max_pending:
            raise Overloaded
        self._pending += 1
        try:
            # Calls wait here: discarding cancelled work in the executor's queue would hold the GIL at low priority.
            with self._instrumentation.hash_wait():
                await self._free_threads.acquire()
            on_start()
            with self._instrumentation.password_hash():
                hashing = asyncio.get_running_loop().run_in_executor(self._threads, work)
                hashing.add_done_callback(lambda _: self._free_threads.release())
                # A cancelled call keeps its thread busy until the hash is done.
                return await asyncio.shield(hashing)
        finally:
            self._pending -= 1

    def _verify(self, secret: bytes, password_hash: str | None) -> bool:
        if len(secret) > MAX_BYTES or b"\0" in secret or password_hash is None or not HASH.fullmatch(password_hash):
            self._matches(secret[:MAX_BYTES], self._dummy_hash)
            return False
        matches = self._matches(secret, password_hash)
        # A check at a lower cost c would be faster. Hash at each cost from c to rounds - 1 to add the missing work:
        # 2^c + 2^c + 2^(c+1) + … + 2^(rounds-1) = 2^rounds.
        for cost in range(_cost(password_hash), self._rounds):
            self._hash(secret, cost)
        return matches

    def _matches(self, secret: bytes, password_hash: str) -> bool:
        return bcrypt.checkpw(secret, password_hash.encode())

    def _hash(self, secret: bytes, cost: int) -> str:
        return bcrypt.hashpw(secret, bcrypt.gensalt(cost)).decode()


def _cost(password_hash: str) -> int:
    match = HASH.fullmatch(password_hash)
    return int(match[1]) if match else 0


def _lower_priority() -> None:
    # Only on Linux does a thread have its own priority.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
