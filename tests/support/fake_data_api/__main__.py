"""The fake as a process: prints its URL on one line, and runs until it is told to stop."""

import argparse
import signal
import sys

from tests.support.fake_data_api import FakeDataApi


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.fake_data_api", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 is one that is free")
    parser.add_argument("--username", default="cassandra")
    parser.add_argument("--password", default="cassandra")
    for name, cost in (
        ("delay", "how long each request waits (a real one takes 4 to 7)"),
        ("row", "how long it waits for each document or row that it answers (a real one takes 0.24)"),
        ("burn", "how much CPU each request costs (a real one with its Cassandra takes 2.3)"),
    ):
        parser.add_argument(f"--{name}-milliseconds", dest=f"{name}_ms", type=float, default=0, help=cost)
    stopping = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)  # in all threads, so that sigwait gets them
    with FakeDataApi(**vars(parser.parse_args()), keeps_requests=False) as api:
        sys.stdout.write(api.url + "\n")
        sys.stdout.flush()
        signal.sigwait(stopping)


if __name__ == "__main__":
    main()
