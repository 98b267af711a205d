"""Measures bcrypt alone on all cores: `python -m tests.bench.hashing ROUNDS SECONDS` prints checks per second.

With `yielding` after that, it takes only the time of idle cores, as the service's hashing processes do.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import bcrypt

from killrvideo_grpc.security.hashing_process import yield_to_others

SECRET = b"correct horse"


def rate(password_hash: bytes, seconds: float) -> float:
    """Check a password repeatedly, and return the checks per second."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        bcrypt.checkpw(SECRET, password_hash)
        count += 1
    return count / (time.perf_counter() - began)


def main() -> None:
    """Run one thread per core; bcrypt releases the GIL."""
    if sys.argv[3:] == ["yielding"]:
        os.setsid()
        while not yield_to_others():
            pass
    password_hash = bcrypt.hashpw(SECRET, bcrypt.gensalt(int(sys.argv[1])))
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        sys.stdout.write(str(sum(pool.map(rate, [password_hash] * threads, [float(sys.argv[2])] * threads))))


if __name__ == "__main__":
    main()
