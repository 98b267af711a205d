"""Password hashes, by bcrypt."""

import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import bcrypt

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded

MAX_BYTES = 72  # bcrypt reads no more
HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")


class BcryptHasher:
    """Implements `PasswordHasher`. `rounds` is the cost: each one more doubles the work (12: about 240 ms of CPU).

    As many hashes as `at_once` are made at a time; other callers wait for their turn, no longer than their deadline.
    """

    def __init__(self, rounds: int, at_once: int) -> None:
        self._rounds = rounds
        self._turns = threading.Semaphore(at_once)
        # What an unknown account is checked against. Its password is random and is forgotten here.
        self._nobody = bcrypt.hashpw(secrets.token_bytes(32), bcrypt.gensalt(rounds)).decode()

    def hash(self, password: str) -> str:
        """Returns a `$2b$` hash. Raises DeadlineExceeded instead of working for a caller who is gone."""
        return self._hash(password.encode(), self._rounds)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Checks a password against a `$2a$`, `$2b$` or `$2y$` hash, at a cost that says nothing of the result.

        What bcrypt can't tell apart is no password of ours: over 72 bytes (cut in silence), NUL (bcrypt repeats the
        password and a NUL, so that one can pass for another).
        """
        secret = password.encode()
        if len(secret) > MAX_BYTES or b"\0" in secret or password_hash is None or not HASH.fullmatch(password_hash):
            self._matches(secret[:MAX_BYTES], self._nobody)
            return False
        matches = self._matches(secret, password_hash)
        # A hash of a lower cost was quick to check, which would tell that the account exists: 2^c more steps for each
        # cost c from its own up to the configured one make 2^rounds in all. One of a higher cost takes what it takes.
        for cost in range(_cost(password_hash), self._rounds):
            self._hash(secret, cost)
        return matches

    def needs_rehash(self, password_hash: str) -> bool:
        """Says whether the hash has another cost than the configured one."""
        return _cost(password_hash) != self._rounds

    def _matches(self, secret: bytes, password_hash: str) -> bool:
        with self._turn():
            return bcrypt.checkpw(secret, password_hash.encode())

    def _hash(self, secret: bytes, cost: int) -> str:
        with self._turn():
            return bcrypt.hashpw(secret, bcrypt.gensalt(cost)).decode()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=deadline.time_left(at_most=threading.TIMEOUT_MAX)):
            raise DeadlineExceeded
        try:
            if deadline.is_over():
                raise DeadlineExceeded
            yield
        finally:
            self._turns.release()


def _cost(password_hash: str) -> int:
    match = HASH.fullmatch(password_hash)
    return int(match[1]) if match else 0
