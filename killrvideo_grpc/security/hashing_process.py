"""A process that hashes passwords: `python -m killrvideo_grpc.security.hashing_process ROUNDS`.

Each line of standard input is a request in JSON, ["hash", password] or ["verify", password, hash]. Each line of
standard output is an answer: [result, whether the process ends]. The process ends with its standard input.
"""

import json
import os
import re
import secrets
import signal
import string
import sys
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

import bcrypt

T = TypeVar("T")

MAX_BYTES = 72  # bcrypt ignores the rest
ALPHABET = string.ascii_letters + string.digits + "./"  # bcrypt's base64
HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
REFERENCE_ROUNDS = 12  # take a quarter of a second of CPU
IDLE_SECONDS = 1.0  # at that cost, for work on idle cores before it begins again at normal priority
MIN_IDLE_ROUNDS = 9  # cheaper hashes, of up to 15 ms, disturb nobody


class Bcrypt:
    """Hashes and checks passwords. Each step of `rounds`, bcrypt's cost, doubles the work."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        # Checked in place of the hash of an unknown account. Nobody knows its password.
        self._dummy_hash = bcrypt.gensalt(rounds).decode() + "".join(secrets.choice(ALPHABET) for _ in range(31))

    def hash(self, password: str) -> str:
        """Return a `$2b$` hash."""
        return self._hash(password.encode(), self._rounds)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Check a password against a `$2a$`, `$2b$` or `$2y$` hash. Anything else takes as long and gives False."""
        secret = password.encode()
        if len(secret) > MAX_BYTES or b"\0" in secret or password_hash is None or not HASH.fullmatch(password_hash):
            self._matches(secret[:MAX_BYTES], self._dummy_hash)
            return False
        matches = self._matches(secret, password_hash)
        # A check at a lower cost c would be faster. Hash at each cost from c to rounds - 1 to add the missing work:
        # 2^c + 2^c + 2^(c+1) + … + 2^(rounds-1) = 2^rounds.
        for cost in range(cost_of(password_hash), self._rounds):
            self._hash(secret, cost)
        return matches

    def _matches(self, secret: bytes, password_hash: str) -> bool:
        return bcrypt.checkpw(secret, password_hash.encode())

    def _hash(self, secret: bytes, cost: int) -> str:
        return bcrypt.hashpw(secret, bcrypt.gensalt(cost)).decode()


def cost_of(password_hash: str) -> int:
    """Return the cost of a hash; 0 if it isn't one."""
    match = HASH.fullmatch(password_hash)
    return int(match[1]) if match else 0


def main() -> None:
    """Answer requests until standard input ends."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: calls in progress still need hashes
        signal.signal(ignored, signal.SIG_IGN)
    rounds = int(sys.argv[1])
    work = Bcrypt(rounds)
    idle_seconds = IDLE_SECONDS * 2.0 ** (rounds - REFERENCE_ROUNDS) if rounds >= MIN_IDLE_ROUNDS else 0.0
    for line in sys.stdin.buffer:
        method, *arguments = json.loads(line)
        result, was_starved = run_idle(partial(getattr(work, method), *arguments), idle_seconds)
        sys.stdout.buffer.write(json.dumps([result, was_starved]).encode() + b"\n")
        sys.stdout.buffer.flush()
        if was_starved:
            os._exit(0)  # ends the first try


def run_idle(work: Callable[[], T], seconds: float) -> tuple[T, bool]:
    """Run `work` on idle cores or, if that takes longer than `seconds`, once more at normal priority.

    Return the result, and whether the first try was starved and goes on. No thread can leave SCHED_IDLE.
    """
    if not seconds or not hasattr(os, "SCHED_IDLE"):
        return work(), False
    results: SimpleQueue[T] = SimpleQueue()

    def run() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        results.put(work())

    threading.Thread(target=run, daemon=True).start()
    try:
        return results.get(timeout=seconds), False
    except Empty:
        return work(), True


if __name__ == "__main__":
    main()
