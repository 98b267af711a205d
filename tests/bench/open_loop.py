"""Latency of GetMe on the Data API at fixed rates, whether or not earlier calls were answered."""

from functools import partial

from tests.bench.accounts import Account, register
from tests.bench.astra import EACH, JOINED, NEAR, both_ways
from tests.bench.caller import GET_ME, Report, plan
from tests.bench.clients import report_of
from tests.bench.processes import Server
from tests.bench.report import Figure, Result, difference
from tests.bench.rounds import WARM_UP_SECONDS, Options, each, in_turns

ACCOUNTS = 100
RATES = (20, 50, 100, 200, 400)
# One request each overloads the near one at 400 calls a second.
BEARABLE = {"near": 200, "far": 400}
FAR = ("--delay-milliseconds", "20")  # as Astra DB is: its CPU is not ours
LONGER = 3  # times the usual duration: at 20 calls a second, a median needs some
AT_MOST_MS = 1.0


def measure_open(options: Options) -> Result:
    """Median of GetMe at random arrivals with joined look-ups - with one request per look-up."""
    figures: list[Figure] = []
    rounds: list[dict[str, float]] = [{} for _ in range(options.rounds)]
    seconds = options.seconds * LONGER
    for place, cost in (("near", NEAR), ("far", FAR)):
        with both_ways(cost) as (joined, one_each):
            accounts = register(joined.address, ACCOUNTS)
            servers = {JOINED: joined, EACH: one_each}
            for rate in (rate for rate in RATES if rate <= BEARABLE[place]):
                sides = {
                    f"{side}, {place}, {rate}/s": partial(_call, server, accounts, rate, seconds)
                    for side, server in servers.items()
                }
                found = each(in_turns(options.rounds, sides), lambda report: report["p50_ms"])
                for seen, known in zip(found, rounds, strict=True):
                    known.update(seen)
                figures.append(difference(f"joined - one each, {place}, {rate}/s", found, *sides, at_most=AT_MOST_MS))
    return Result(figures, rounds, unit=" ms")


def _call(server: Server, accounts: list[Account], rate: float, seconds: float) -> Report:
    tokens = [account.token for account in accounts]
    return report_of(
        plan(
            server.address,
            GET_ME,
            seconds,
            tokens=tokens,
            rate=rate,
            random_arrivals=True,
            warm_up=WARM_UP_SECONDS,
        )
    )
