"""The stand-in as a process of its own: prints its URL on one line, and runs until it is told to stop."""

import argparse
import sys

from killrvideo_grpc.stopping import stop_event
from tests.support.data_api import DataApi


def main() -> None:
    options = _parser().parse_args()
    stopping = stop_event()
    api = DataApi(
        username=options.username,
        password=options.password,
        token=options.token,
        host=options.host,
        port=options.port,
        base_ms=options.latency_ms,
        row_ms=options.row_ms,
        keeps_requests=False,
    )
    with api:
        sys.stdout.write(api.url + "\n")
        sys.stdout.flush()
        stopping.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.support.data_api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 is one that is free")
    parser.add_argument("--username", default="cassandra")
    parser.add_argument("--password", default="cassandra")
    parser.add_argument("--token", help="take this token instead of the user and the password")
    parser.add_argument("--latency-ms", type=float, default=0, help="how long every command takes (a real one: 4 to 7)")
    parser.add_argument("--row-ms", type=float, default=0, help="and every row of its answer (a real one: 0.24)")
    return parser


if __name__ == "__main__":
    main()
