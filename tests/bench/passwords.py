"""Logins: how they affect other calls, and how close their rate comes to that of bcrypt alone."""

import statistics
import subprocess

from killrvideo.user.v1 import user_service_pb2

from tests.bench.accounts import Account, served
from tests.bench.caller import GET_ME, LOGIN, Plan, Report, plan
from tests.bench.clients import client, finish, process, report_of
from tests.bench.processes import ROOT, SHIPPED, module
from tests.bench.report import Result, ratio
from tests.bench.rounds import Options, Round, each, in_turns
from tests.support.accounts import PASSWORD

CLIENTS = 16
RATE = 200.0
PATIENCE = 30.0
WARM_UP_SECONDS = 1.0
LONGER = 3  # times the usual duration: a p99 needs many calls, and a login takes a quarter of a second

IDLE, STORM, HASHES = "idle", "storm", "hashes"
MORE_SECONDS = 5.0  # for the clients' start and warm-up


def measure_storm(options: Options) -> Result:
    """Latency of GetMe at 200 calls a second while 16 clients log in ÷ while nobody does.

    Bcrypt alone, on idle cores and without any login, shows how much of it is the system's.
    """
    seconds = options.seconds * LONGER
    with served(2 * CLIENTS) as (server, accounts):
        # Accounts other than those that log in: an account has at most 20 sessions, so logins would end those of GetMe.
        tokens = [account.token for account in accounts[CLIENTS:]]
        calls = plan(server.address, GET_ME, seconds, tokens=tokens, rate=RATE, warm_up=WARM_UP_SECONDS)
        logins = _logins(server.address, accounts[:CLIENTS], seconds)

        def storm() -> tuple[Report, float]:
            with client(logins) as others:
                answered = report_of(calls)
                return answered, finish(others)["rate"]  # waits for the last login before the idle side

        def hashes() -> tuple[Report, float]:
            command = module("tests.bench.hashing", SHIPPED["BCRYPT_ROUNDS"], str(seconds + MORE_SECONDS), "yielding")
            with process(command):
                return report_of(calls), 0.0

        found = in_turns(options.rounds, {IDLE: lambda: (report_of(calls), 0.0), STORM: storm, HASHES: hashes})
    p50 = [_named("p50", sides) for sides in each(found, lambda seen: seen[0]["p50_ms"])]
    p99 = [_named("p99", sides) for sides in each(found, lambda seen: seen[0]["p99_ms"])]
    return Result(
        [
            ratio("p50 while 16 log in ÷ idle", p50, "p50 storm", "p50 idle", at_most=1.1),
            ratio("p99 while 16 log in ÷ idle", p99, "p99 storm", "p99 idle", at_most=2),
            ratio("p99 beside bcrypt alone ÷ idle", p99, "p99 hashes", "p99 idle"),
        ],
        [half | most for half, most in zip(p50, p99, strict=True)],
        unit=" ms",
        details={"logins_a_second": statistics.median(sides[STORM][1] for sides in found)},
    )


def measure_logins(options: Options) -> Result:
    """Logins per second with 16 clients ÷ password checks per second of bcrypt alone on all cores."""
    seconds = options.seconds * LONGER
    with served(CLIENTS) as (server, accounts):
        logins = _logins(server.address, accounts, seconds)
        sides = {"logins": lambda: report_of(logins)["rate"], "bcrypt alone": lambda: _hashing(seconds)}
        rounds = in_turns(options.rounds, sides)
    return Result([ratio("logins ÷ bcrypt alone", rounds, "logins", "bcrypt alone", at_least=0.95)], rounds)


def _named(percentile: str, sides: Round) -> Round:
    return {f"{percentile} {side}": value for side, value in sides.items()}


def _hashing(seconds: float) -> float:
    command = module("tests.bench.hashing", SHIPPED["BCRYPT_ROUNDS"], str(seconds))
    return float(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _logins(address: str, accounts: list[Account], seconds: float) -> Plan:
    requests = [user_service_pb2.LoginRequest(email=account.email, password=PASSWORD) for account in accounts]
    return plan(
        address,
        LOGIN,
        seconds,
        requests=[request.SerializeToString() for request in requests],
        callers=CLIENTS,
        warm_up=WARM_UP_SECONDS,
        patience=PATIENCE,
    )
