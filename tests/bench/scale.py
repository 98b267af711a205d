"""GetMe with a million accounts in SQLite."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.accounts import insert_accounts, mint
from tests.bench.caller import GET_ME, Plan, Report, plan
from tests.bench.clients import report_of
from tests.bench.processes import Server, cpu_seconds, service
from tests.bench.report import Result, ratio
from tests.bench.rounds import Options, each, in_turns, medians

FEW, MANY = 1_000, 1_000_000
TOKENS = 5_000  # on both sides, so that checking tokens costs the same
CALLERS = 8


@dataclass(frozen=True)
class _Seen:
    report: Report
    microseconds: float  # of the service's CPU per call


def measure_scale(options: Options) -> Result:
    """The service's CPU time per GetMe at 1,000,000 accounts ÷ at 1,000, with tokens of random accounts.

    Measures the service's CPU time, because h2load can't mix tokens, and a Python client would be the bottleneck.
    """
    with _filled(FEW, options) as few, _filled(MANY, options) as many:
        sides = {f"{FEW:,}": few, f"{MANY:,}": many}
        for both in sides.values():
            _measure(*both)
        found = in_turns(options.rounds, {side: partial(_measure, *both) for side, both in sides.items()})
    rounds = each(found, lambda seen: seen.microseconds)
    title = f"CPU per call at {MANY:,} accounts ÷ at {FEW:,}"
    return Result(
        [ratio(title, rounds, f"{MANY:,}", f"{FEW:,}", at_most=1.2)],
        rounds,
        unit=" µs",
        details={"p50_ms": medians(each(found, lambda seen: seen.report["p50_ms"]))},
    )


@contextmanager
def _filled(accounts: int, options: Options) -> Iterator[tuple[Server, Plan]]:
    with tempfile.TemporaryDirectory() as folder:
        ids = insert_accounts(Path(folder) / "killrvideo.db", accounts)
        callers = random.Random(1).choices(ids, k=TOKENS)
        with service(Path(folder)) as server:
            yield (
                server,
                plan(server.address, GET_ME, options.seconds, tokens=list(map(mint, callers)), callers=CALLERS),
            )


def _measure(server: Server, calls: Plan) -> _Seen:
    before = cpu_seconds(server.pid)
    report = report_of(calls)
    return _Seen(report, (cpu_seconds(server.pid) - before) / report["good"] * 1_000_000)
