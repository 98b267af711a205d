"""More calls than the service can answer."""

import time

import grpc

from tests.bench.accounts import Account, get_me, served
from tests.bench.load import Load, Source, calls_of_get_me, drive
from tests.bench.report import Result, ratio
from tests.bench.rounds import WARM_UP_SECONDS, Options, each, generator_cores, medians, rates

OVERLOAD = 3
DEADLINE_SECONDS = 1.0
RECOVERY_SECONDS = 15.0  # the longest to wait for the recovery
PAUSE_SECONDS = 0.05
CAPACITY, OVER = "at capacity", "at 3 times"


def measure_overload(options: Options) -> Result:
    """Successful calls per second at 3 times the capacity ÷ at capacity.

    Capacity is the rate of a closed loop: 32 callers, each of which waits for a response between calls. Then three
    times as many calls are sent at a fixed rate, regardless of their responses. All calls have a deadline of a second.
    """
    with served() as (server, accounts):
        source = calls_of_get_me(server.ports[0], accounts[0], patience=DEADLINE_SECONDS)
        drive([source], WARM_UP_SECONDS)
        found, recoveries = [], []
        for _ in range(options.rounds):
            found.append(_overload(source, options.seconds))
            recoveries.append(_recovery(server.address, accounts[0]))
    rounds = rates(found)
    return Result(
        [ratio("good answers at 3 times the capacity ÷ at capacity", rounds, OVER, CAPACITY, at_least=0.85)],
        rounds,
        details={
            "answers_of_all_kinds": medians(each(found, lambda load: load.answered)),
            "recovery_seconds": recoveries,
            "deadline_seconds": DEADLINE_SECONDS,
            "generator_cores": generator_cores(found),
        },
    )


def _overload(source: Source, seconds: float) -> dict[str, Load]:
    capacity = drive([source], seconds)
    # Longer by one deadline, because no call can be late before that.
    return {CAPACITY: capacity, OVER: drive([source.paced(OVERLOAD * capacity.rate)], seconds + DEADLINE_SECONDS)}


def _recovery(address: str, account: Account) -> float:
    """Return the seconds from the end of the overload until a call is answered in time."""
    began = time.perf_counter()
    while time.perf_counter() - began < RECOVERY_SECONDS:
        try:
            get_me(address, account, DEADLINE_SECONDS)
            break
        except grpc.RpcError:
            time.sleep(PAUSE_SECONDS)
    return time.perf_counter() - began
