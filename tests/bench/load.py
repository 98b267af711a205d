"""Puts load on servers: with h2load if it is installed, or else with Python clients, which need far more CPU."""

import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from tests.bench.accounts import Account
from tests.bench.caller import GET_ME, Plan, plan
from tests.bench.clients import client, finish, process

H2LOAD = shutil.which("h2load")
GENERATOR = "h2load" if H2LOAD else "clients of our own"

FRAME_HEAD = 5  # bytes before each gRPC message: a flag and the length
MAX_UNDER_WAY = 4000  # concurrent calls per connection, for calls on a schedule
PATIENCE = 10.0


@dataclass(frozen=True)
class Source:
    """One load generator: its target, its token, its number of connections, and the concurrent calls on each.

    `answer` is the size of a successful response in bytes. With a `rate`, that many calls are sent each second, whether
    or not earlier ones were answered; without one, each call waits for the last response. `patience` is the deadline.
    """

    url: str
    token: str
    answer: int
    connections: int = 4
    at_once: int = 8
    rate: float | None = None
    patience: float = PATIENCE

    @property
    def is_grpc(self) -> bool:
        return self.url.endswith(GET_ME)

    def paced(self, rate: float) -> "Source":
        """Return a copy of the source that sends calls at this rate."""
        return replace(self, rate=rate, at_once=MAX_UNDER_WAY)


@dataclass(frozen=True)
class Load:
    """The result of a load: successful and total responses per second, and the cores that the generators used."""

    rate: float
    answered: float
    generator_cores: float


def calls_of_get_me(port: int, account: Account, **options: Any) -> Source:
    """Return a source of GetMe calls."""
    return Source(f"http://127.0.0.1:{port}{GET_ME}", account.token, FRAME_HEAD + account.user.ByteSize(), **options)


def drive(sources: Sequence[Source], seconds: float) -> Load:
    """Run all sources at once. Raise RuntimeError if calls of a source without a rate fail."""
    before, began = _cpu_of_children(), time.perf_counter()
    found = _h2load(sources, seconds) if H2LOAD else _own_clients(sources, seconds)
    share = (_cpu_of_children() - before) / (time.perf_counter() - began)
    rate, answered = (sum(column) for column in zip(*found, strict=True))
    if rate < 0.98 * answered and all(source.rate is None for source in sources):
        raise RuntimeError(f"of {answered:.0f} answers a second only {rate:.0f} were good")
    return Load(rate, answered, share)


def _h2load(sources: Sequence[Source], seconds: float) -> list[tuple[float, float]]:
    with tempfile.NamedTemporaryFile() as empty_message, ExitStack() as stack:
        empty_message.write(bytes(FRAME_HEAD))
        empty_message.flush()
        commands = [_h2load_command(source, seconds, empty_message.name) for source in sources]
        running = [stack.enter_context(process(command)) for command in commands]
        return [_read_h2load(one.communicate()[0], source) for one, source in zip(running, sources, strict=True)]


def _h2load_command(source: Source, seconds: float, message: str) -> list[str]:
    headers = [f"authorization: Bearer {source.token}"]
    command = [str(H2LOAD), f"-D{round(seconds * 1000)}ms", f"-c{source.connections}", f"-m{source.at_once}"]
    if source.rate is not None:
        command.append(f"--rps={source.rate / source.connections:.0f}")
    if source.is_grpc:
        headers += ["content-type: application/grpc", "te: trailers", f"grpc-timeout: {source.patience * 1000:.0f}m"]
        command += ["-d", message]
    return [*command, *(f"-H{header}" for header in headers), source.url]


def _read_h2load(output: str, source: Source) -> tuple[float, float]:
    """Return the successful and total responses per second.

    h2load only checks the HTTP status, which is 200 for gRPC errors too. But errors contain no message, so the count of
    received message bytes shows how many responses were successful.
    """
    time_taken = re.search(r"finished in ([\d.]+)(m?)s", output)
    answered, fine, data = (re.search(pattern, output) for pattern in (r"(\d+) done", r"(\d+) 2xx", r"\((\d+)\) data"))
    if not (time_taken and answered and fine and data):
        raise RuntimeError(f"h2load said:\n{output}")
    seconds = float(time_taken[1]) / (1000 if time_taken[2] else 1)
    good = int(data[1]) / source.answer if source.is_grpc else int(fine[1])
    return good / seconds, int(answered[1]) / seconds


def _own_clients(sources: Sequence[Source], seconds: float) -> list[tuple[float, float]]:
    with ExitStack() as stack:
        plans = [_plan(source, seconds) for source in sources for _ in range(source.connections)]
        reports = [finish(one) for one in [stack.enter_context(client(one)) for one in plans]]
    return [(report["rate"], sum(report["codes"].values()) / seconds) for report in reports]


def _plan(source: Source, seconds: float) -> Plan:
    """Return the plan of a Python client for one connection of a source."""
    return plan(
        source.url.removeprefix("http://").removesuffix(GET_ME),
        GET_ME,
        seconds,
        tokens=[source.token],
        callers=source.at_once,
        rate=None if source.rate is None else source.rate / source.connections,
        patience=source.patience,
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _cpu_of_children() -> float:
    # Counts children that have ended: while a load runs, only its generators end.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
