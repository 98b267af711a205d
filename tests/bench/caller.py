"""A client in its own process: reads a plan (JSON) from standard input, carries it out and prints the results.

With a rate (an open loop), calls are sent on a schedule, whether or not earlier ones were answered, and a call's time
is measured from its scheduled time. Without a rate (a closed loop), each caller waits for an answer between calls.
"""

import asyncio
import itertools
import json
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import grpc
import grpc.aio

GET_ME = "/killrvideo.user.v1.UserService/GetMe"
LOGIN = "/killrvideo.user.v1.UserService/Login"


class Plan(TypedDict):
    """What to call, and for how long. Each call picks one of the requests (in hex) and one of the tokens at random."""

    address: str
    method: str
    requests: list[str]
    tokens: list[str]
    callers: int
    rate: float | None
    random_arrivals: bool
    warm_up: float
    seconds: float
    patience: float


def plan(
    address: str,
    method: str,
    seconds: float,
    *,
    requests: Sequence[bytes] = (b"",),
    tokens: Sequence[str] = (),
    callers: int = 1,
    rate: float | None = None,
    random_arrivals: bool = False,
    warm_up: float = 0.0,
    patience: float = 10.0,
) -> Plan:
    """Return a plan."""
    return {
        "address": address,
        "method": method,
        "requests": [request.hex() for request in requests],
        "tokens": list(tokens),
        "callers": callers,
        "rate": rate,
        "random_arrivals": random_arrivals,
        "warm_up": warm_up,
        "seconds": seconds,
        "patience": patience,
    }


class Report(TypedDict):
    """The results, without the warm-up."""

    good: int
    codes: dict[str, int]
    rate: float
    p50_ms: float
    p99_ms: float


@dataclass
class _Log:
    """Records the calls that end within a period."""

    start: float
    end: float
    times: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def note(self, began: float, code: grpc.StatusCode) -> None:
        now = time.perf_counter()
        if not self.start <= now <= self.end:
            return
        self.codes[code.name] += 1
        if code is grpc.StatusCode.OK:
            self.times.append(now - began)
            self.ends.append(now)

    def report(self) -> Report:
        good = len(self.times)
        percentiles = statistics.quantiles(self.times, n=100) if good > 1 else [float("nan")] * 99
        # From the first answer to the last: with few, slow calls, the idle ends of the period would distort the rate.
        between = max(self.ends) - min(self.ends) if good > 1 else 1.0
        return {
            "good": good,
            "codes": dict(self.codes),
            "rate": (good - 1) / between if good > 1 else 0.0,
            "p50_ms": percentiles[49] * 1000,
            "p99_ms": percentiles[98] * 1000,
        }


class _Calls:
    """Yields the arguments of one call after another."""

    def __init__(self, plan: Plan) -> None:
        self._random = random.Random(1)
        self._requests = [bytes.fromhex(request) for request in plan["requests"]]
        self._metadata: list[tuple[tuple[str, str], ...]] = [
            (("authorization", f"Bearer {token}"),) for token in plan["tokens"]
        ] or [()]
        self._patience = plan["patience"]

    def next(self) -> tuple[bytes, dict[str, Any]]:
        metadata = self._random.choice(self._metadata)
        return self._random.choice(self._requests), {"metadata": metadata, "timeout": self._patience}


async def call_in_turn(plan: Plan) -> Report:
    """Run the closed loop."""
    calls = _Calls(plan)
    start = time.perf_counter() + plan["warm_up"]
    log = _Log(start, start + plan["seconds"])
    async with grpc.aio.insecure_channel(plan["address"]) as channel:
        method: Any = channel.unary_unary(plan["method"])

        async def caller() -> None:
            while (began := time.perf_counter()) < log.end:
                request, options = calls.next()
                try:
                    await method(request, **options)
                    code = grpc.StatusCode.OK
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                log.note(began, code)

        await asyncio.gather(*(caller() for _ in range(plan["callers"])))
    return log.report()


def call_on_schedule(plan: Plan, rate: float) -> Report:
    """Run the open loop, on threads because asyncio only wakes up at whole milliseconds."""
    calls = _Calls(plan)
    with grpc.insecure_channel(plan["address"]) as channel:
        method: Any = channel.unary_unary(plan["method"])
        grpc.channel_ready_future(channel).result(10)
        began = time.perf_counter()
        start = began + plan["warm_up"]
        log = _Log(start, start + plan["seconds"] + plan["patience"])
        dues = _schedule(began, round((plan["warm_up"] + plan["seconds"]) * rate), rate, plan["random_arrivals"])
        under_way = threading.Semaphore(0)

        def answered(due: float, call: Any) -> None:
            if due >= start:
                log.note(due, call.code())
            under_way.release()

        for due in dues:
            time.sleep(max(0.0, due - time.perf_counter()))
            request, options = calls.next()
            method.future(request, **options).add_done_callback(lambda call, due=due: answered(due, call))
        for _ in dues:
            under_way.acquire()
    return log.report()


def _schedule(began: float, count: int, rate: float, random_arrivals: bool) -> list[float]:
    """Return when to send each call: at even intervals, or as callers who know nothing of each other do."""
    source = random.Random(1)
    gaps = [source.expovariate(rate) if random_arrivals else 1 / rate for _ in range(count)]
    return [began + after for after in itertools.accumulate(gaps)]


def main() -> None:
    given: Plan = json.load(sys.stdin)
    rate = given["rate"]
    report = asyncio.run(call_in_turn(given)) if rate is None else call_on_schedule(given, rate)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
