"""The benchmark: `make bench`, or `make bench PART=storm` for one part.

Each part starts its servers, measures the sides alternately, stops everything and prints a line of JSON; a table
follows at the end. A missed target is reported, but is not a failure. docs/performance.md says how to read the figures.
"""

import argparse
import signal
import sys
import traceback
from collections.abc import Callable

from tests.bench import astra, calls, edge, footprint, getme, open_loop, overload, passwords, scale, search, siblings
from tests.bench.load import GENERATOR, H2LOAD
from tests.bench.report import Result, as_json, as_table
from tests.bench.rounds import Options

PARTS: dict[str, Callable[[Options], Result]] = {
    "getme": getme.measure_getme,
    "astra": astra.measure_astra,
    "open": open_loop.measure_open,
    "storm": passwords.measure_storm,
    "logins": passwords.measure_logins,
    "calls": calls.measure_calls,
    "workers": getme.measure_workers,
    "scale": scale.measure_scale,
    "search": search.measure_search,
    "rest": edge.measure_rest,
    "siblings": siblings.measure_siblings,
    "overload": overload.measure_overload,
    "footprint": footprint.measure_footprint,
}

CAVEAT = "They need more CPU than the service does, so most ratios come out too close to 1."


def main() -> None:
    """Measures the requested parts and prints their results."""
    given = _parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("told to stop"))  # the exception stops all servers
    if not H2LOAD:
        print(f"Load by {GENERATOR}, as h2load is not installed (Debian's nghttp2-client has it). {CAVEAT}", flush=True)
    results: dict[str, Result] = {}
    try:
        failed = [
            part for part in given.parts or PARTS if not _measure(part, Options(given.rounds, given.seconds), results)
        ]
    finally:
        if results:
            print(f"\n{as_table(results)}")
    if failed:
        sys.exit(f"Not measured: {', '.join(failed)}. What went wrong is above.")


def _measure(part: str, options: Options, results: dict[str, Result]) -> bool:
    try:
        results[part] = PARTS[part](options)
    except Exception:
        traceback.print_exc()  # goes on with the other parts
        return False
    print(as_json(part, results[part]), flush=True)
    return True


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no part {name!r}")
    return name


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, PARTS)) + 2
    parts = "\n".join(f"  {name:<{width}}{(part.__doc__ or '').splitlines()[0]}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        epilog=f"parts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help="what to measure (default: everything)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.5,
        help="for how long; three times that in storm and logins (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    main()
