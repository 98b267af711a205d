"""Look-ups by user id, joined and one request each, side by side on the same server. Run it with `make bench`.

The server is the stand-in for the Data API as a process of its own. It takes as long over a command as a real one was
measured to (4.5 ms a request and 0.24 ms a row), but it takes it by waiting: a real one also runs out of cores, where
fewer and larger requests gain more than here. With TEST_DATA_API_* set, the server is that real one.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any
from uuid import UUID

from killrvideo_grpc.stores.data_api import Connection, DataApi
from killrvideo_grpc.stores.joined_reads import JoinedReads
from tests.support.accounts import a_user
from tests.support.keyspaces import PASSWORD, REAL_URL, USERNAME, connection_to, prepare, real_keyspace

ACCOUNTS = 200
READS = 3_000
CALLERS = (1, 8, 32, 64)
MAX_WAIT = 30.0

Look = Callable[[UUID], Any]


def main() -> None:
    """Prints reads a second, and the median and 99th percentile of a read, for both ways and several callers."""
    with stand_in_process() if REAL_URL is None else real_keyspace() as connection:
        api = DataApi(connection)
        joined = JoinedReads(api.find_rows)
        keys = [register(api) for _ in range(ACCOUNTS)]
        ways: dict[str, Look] = {
            "one request each": lambda key: api.find_rows([key], MAX_WAIT),
            "joined": lambda key: joined.get(key, MAX_WAIT),
        }
        print(f"{'callers':>7}  {'way':<16} {'reads/s':>8} {'p50 ms':>7} {'p99 ms':>7}")
        for callers in CALLERS:
            rates = [measure(way, look, callers, keys) for way, look in ways.items()]
            print(f"{'':>7}  joined is {rates[1] / rates[0]:.2f} times as many\n")
        joined.close()
        api.close()


def measure(way: str, look: Look, callers: int, keys: list[UUID]) -> float:
    """Reads many keys with so many callers, prints a line, and returns the reads a second."""
    count = READS if callers > 1 else READS // 20

    def timed(key: UUID) -> float:
        started = time.perf_counter()
        assert look(key)
        return time.perf_counter() - started

    with ThreadPoolExecutor(callers) as pool:
        started = time.perf_counter()
        times = list(pool.map(timed, islice(cycle(keys), count)))
        rate = count / (time.perf_counter() - started)
    percentiles = statistics.quantiles(times, n=100)
    print(f"{callers:>7}  {way:<16} {rate:>8.0f} {percentiles[49] * 1000:>7.1f} {percentiles[98] * 1000:>7.1f}")
    return rate


def register(api: DataApi) -> UUID:
    user = a_user()
    api.insert_row({"userid": user.user_id, "email": user.email, "firstname": "Ann", "lastname": "Lee"})
    return user.user_id


@contextmanager
def stand_in_process() -> Iterator[Connection]:
    arguments = ["--username", USERNAME, "--password", PASSWORD, "--latency-ms", "4.5", "--row-ms", "0.24"]
    command = [sys.executable, "-m", "tests.support.data_api", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            connection = connection_to(process.stdout.readline().strip())
            prepare(connection)
            yield connection
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
