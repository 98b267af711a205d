"""Hashes and checks passwords with bcrypt."""

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
MAX_WAITING = 256  # two cores hash as many in half a minute at the default cost
LOWEST_PRIORITY = 19

T = TypeVar("T")


class BcryptHasher:
    """Implements `PasswordHasher`. `rounds` is bcrypt's cost: each step doubles the work (12: about 240 ms of CPU).

    Hashing runs on `threads` threads of its own at the lowest priority, so that it only uses CPU time that the event
    loop does not need. bcrypt releases the GIL while it hashes.
    """

    def __init__(self, rounds: int, threads: int, instrumentation: Instrumentation = NOOP) -> None:
        self._rounds = rounds
        self._instrumentation = instrumentation
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt", initializer=_lower_priority)
        self._free_threads = asyncio.Semaphore(threads)
        self._most = threads + MAX_WAITING
        self._under_way = 0
        # Passwords of unknown accounts are checked against this: it has the form of a hash, but no known password.
        self._nobody = bcrypt.gensalt(rounds).decode() + "".join(secrets.choice(ALPHABET) for _ in range(31))

    async def hash(self, password: str) -> str:
        """Returns a `$2b$` hash."""
        return await self._run(lambda: self._hash(password.encode(), self._rounds))

    async def verify(self, password: str, password_hash: str | None, begins: Callable[[], None] = lambda: None) -> bool:
        """Checks a password against a `$2a$`, `$2b$` or `$2y$` hash, at the same cost whatever the result.

        Calls `begins` when a thread is free and the check begins. Never accepts passwords that bcrypt can't tell apart:
        it would truncate those over 72 bytes, and treat a NUL as the end of the password and repeat it.
        """
        return await self._run(lambda: self._verify(password.encode(), password_hash), begins)

    def needs_rehash(self, password_hash: str) -> bool:
        """Returns whether the hash has a cost other than the configured one."""
        return _cost(password_hash) != self._rounds

    def close(self) -> None:
        """Waits for the hashes in progress and ends the threads."""
        self._threads.shutdown()

    async def _run(self, work: Callable[[], T], begins: Callable[[], None] = lambda: None) -> T:
        if self._under_way >= self._most:
            raise Overloaded
        self._under_way += 1
        try:
            # Calls wait here and not in the executor's queue. There, the threads would have to discard the work of
            # cancelled calls, holding the GIL at the lowest priority while the event loop waits for it.
            with self._instrumentation.hash_wait():
                await self._free_threads.acquire()
            begins()
            with self._instrumentation.password_hash():
                hashing = asyncio.get_running_loop().run_in_executor(self._threads, work)
                hashing.add_done_callback(lambda _: self._free_threads.release())
                # The thread stays busy until the hash is done, even if the call is cancelled.
                return await asyncio.shield(hashing)
        finally:
            self._under_way -= 1

    def _verify(self, secret: bytes, password_hash: str | None) -> bool:
        if len(secret) > MAX_BYTES or b"\0" in secret or password_hash is None or not HASH.fullmatch(password_hash):
            self._matches(secret[:MAX_BYTES], self._nobody)
            return False
        matches = self._matches(secret, password_hash)
        # A hash of a lower cost c is checked faster, which would reveal that the account exists. Hashing once more at
        # each cost from c to rounds - 1 adds the missing work: 2^c + 2^c + 2^(c+1) + … + 2^(rounds-1) = 2^rounds.
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
    # On Linux a thread has its own priority, so this does not affect the event loop's thread.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
