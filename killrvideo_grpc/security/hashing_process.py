"""A process that hashes passwords: `python -m killrvideo_grpc.security.hashing_process ROUNDS DESCRIPTOR`.

DESCRIPTOR is a socket. Each line read from it is a request in JSON, [whether to yield, "hash", password] or
[whether to yield, "verify", password, hash]. Each line written is the result. The process ends with the socket.
"""

import json
import os
import re
import signal
import string
import sys
import time
from contextlib import suppress

import bcrypt

MAX_BYTES = 72  # bcrypt ignores the rest
ALPHABET = string.ascii_letters + string.digits + "./"  # bcrypt's base64
HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
MAX_TRIES = 15


class Bcrypt:
    """Hashes and checks passwords. Each step of `rounds`, bcrypt's cost, doubles the work (12: about 240 ms of CPU)."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        # Checked in place of the hash of an unknown account. Nobody knows its password.
        self._dummy_hash = bcrypt.gensalt(rounds).decode() + "".join(ALPHABET[byte % 64] for byte in os.urandom(31))

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
    """Answer requests until the socket ends."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # systemd sends it to all: calls in progress still need hashes
        signal.signal(ignored, signal.SIG_IGN)
    work, descriptor = Bcrypt(int(sys.argv[1])), int(sys.argv[2])
    has_yielded = False
    for line in os.fdopen(descriptor, "rb"):
        yields, method, *arguments = json.loads(line)
        if yields and not has_yielded:
            has_yielded = yield_to_others()
        with suppress(BrokenPipeError):
            os.write(descriptor, json.dumps(getattr(work, method)(*arguments)).encode() + b"\n")


def yield_to_others() -> bool:
    """Take only the time of idle cores from now on, where the system allows it. Only root could take it back.

    Return False if it is worth another try.
    """
    if not hasattr(os, "SCHED_IDLE"):
        return True
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # Outside containers, sessions share the cores evenly, and the policy only counts within one: sched(7), autogroup.
    for _ in range(MAX_TRIES):
        try:
            with open("/proc/self/autogroup", "w") as nice:  # noqa: PTH123 # pathlib would double the time to start
                nice.write("19")
        except BlockingIOError:  # the whole machine may make one change in a tenth of a second
            time.sleep(0.1)
        except OSError:
            return True
        else:
            return True
    return False


if __name__ == "__main__":
    main()
