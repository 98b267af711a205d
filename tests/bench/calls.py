"""Other calls than GetMe: their rates, and the CPU that they take."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from killrvideo.user.v1.user_service_pb2 import (
    BatchGetUsersRequest,
    LoginRequest,
    RefreshTokenRequest,
    RegisterRequest,
    SearchUsersRequest,
)
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.bench.accounts import RARE_NAME, Account, insert_accounts, mint, register
from tests.bench.processes import Server, cpu_seconds, module, running, service
from tests.bench.report import Figure, Result
from tests.bench.rounds import WARM_UP_SECONDS, Options, in_turns
from tests.support.accounts import PASSWORD
from tests.support.process import children

CALLERS = 8
ACCOUNTS, MATCHING = 1_000, 50
BATCH = 100  # user ids


@dataclass(frozen=True)
class _Method:
    """A method, a request for it, and callers that each make one call and return its response."""

    name: str
    request: Message
    callers: list[Callable[[], Message]]


@dataclass(frozen=True)
class _Seen:
    rate: float
    microseconds: float  # of the server's CPU per call


def measure_calls(options: Options) -> Result:
    """CPU time of RefreshToken, BatchGetUsers, SearchUsers and Register ÷ that of a bare server with the same response.

    CPU time, because Python clients limit the rates. That of Register is nearly all bcrypt's.
    """
    figures: list[Figure] = []
    rounds: list[dict[str, float]] = [{} for _ in range(options.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        users = insert_accounts(Path(folder) / "killrvideo.db", ACCOUNTS, rare=MATCHING)
        with service(Path(folder)) as server, grpc.insecure_channel(server.address) as channel:
            for method in _methods(UserServiceStub(channel), users, register(server.address, CALLERS)):
                sides = _measure(method, server, Path(folder), options)
                shares = [shipped.microseconds / bare.microseconds for shipped, bare in sides]
                rate, cost = f"{method.name}/s", f"µs of CPU per {method.name}"
                title = f"{method.name}: CPU ÷ a bare server's"
                figures.append(Figure(title, statistics.median(shares), sides=(rate, cost)))
                for known, (shipped, _) in zip(rounds, sides, strict=True):
                    known |= {rate: shipped.rate, cost: shipped.microseconds}
    return Result(figures, rounds, unit="")


def _methods(stub: Any, users: list[str], accounts: list[Account]) -> Iterator[_Method]:
    moderator = {"metadata": (("authorization", f"Bearer {mint(users[-1])}"),)}
    batch, search = BatchGetUsersRequest(user_ids=users[:BATCH]), SearchUsersRequest(query=RARE_NAME)
    yield _Method("BatchGetUsers", batch, [partial(stub.BatchGetUsers, batch, **moderator)] * CALLERS)
    yield _Method("SearchUsers", search, [partial(stub.SearchUsers, search, **moderator)] * CALLERS)
    numbers = itertools.count()

    def registration() -> RegisterRequest:
        email = f"new-{next(numbers)}@example.org"
        return RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee")

    yield _Method("Register", registration(), [lambda: stub.Register(registration())] * CALLERS)

    def refreshing(email: str) -> Callable[[], Message]:
        token = stub.Login(LoginRequest(email=email, password=PASSWORD)).refresh_token

        def refresh() -> Message:
            nonlocal token
            response: Any = stub.RefreshToken(RefreshTokenRequest(refresh_token=token))
            token = response.refresh_token
            return response  # type: ignore[no-any-return]

        return refresh

    callers = [refreshing(account.email) for account in accounts]
    yield _Method("RefreshToken", RefreshTokenRequest(refresh_token="-" * 200), callers)


def _measure(method: _Method, server: Server, folder: Path, options: Options) -> list[tuple[_Seen, _Seen]]:
    with _bare(method, folder) as (bare, bare_callers):
        sides = {"shipped": (server, method.callers), "bare": (bare, bare_callers)}
        for both in sides.values():
            _drive(*both, WARM_UP_SECONDS)
        found = in_turns(
            options.rounds, {side: partial(_drive, *both, options.seconds) for side, both in sides.items()}
        )
    return [(seen["shipped"], seen["bare"]) for seen in found]


@contextmanager
def _bare(method: _Method, folder: Path) -> Iterator[tuple[Server, list[Callable[[], Message]]]]:
    response = method.callers[0]().SerializeToString()
    echo = module("tests.bench.echo", "aio", method.name, response.hex())
    with running(echo, folder) as server, grpc.insecure_channel(server.address) as channel:
        call = getattr(UserServiceStub(channel), method.name)
        yield server, [partial(call, method.request)] * CALLERS


def _drive(server: Server, callers: list[Callable[[], Message]], seconds: float) -> _Seen:
    """Make calls with all callers at once. Each waits for the response between calls."""
    processes = [server.pid, *children(server.pid)]
    before, began = cpu_seconds(*processes), time.perf_counter()

    def repeat(caller: Callable[[], Message]) -> int:
        count = 0
        while time.perf_counter() < began + seconds:
            caller()
            count += 1
        return count

    with ThreadPoolExecutor(len(callers)) as threads:
        count = sum(threads.map(repeat, callers))
    return _Seen(count / (time.perf_counter() - began), (cpu_seconds(*processes) - before) / count * 1_000_000)
