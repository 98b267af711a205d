"""SearchUsers with a million accounts in SQLite."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
from killrvideo.user.v1.user_service_pb2 import SearchUsersRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.bench.accounts import RARE_NAME, insert_accounts, mint
from tests.bench.processes import Server, service
from tests.bench.report import Result, ratio
from tests.bench.rounds import Options, in_turns

FEW, MANY = 1_000, 1_000_000
MATCHING = 50


def measure_search(options: Options) -> Result:
    """The time to search a word that 50 of 1,000,000 accounts contain ÷ that 50 of 1,000 contain."""
    with _filled(FEW) as few, _filled(MANY) as many:
        sides = {f"{FEW:,}": few, f"{MANY:,}": many}
        for server, token in sides.values():
            _milliseconds(server, token, options.seconds)
        rounds = in_turns(
            options.rounds, {side: partial(_milliseconds, *both, options.seconds) for side, both in sides.items()}
        )
    title = f"first page at {MANY:,} accounts ÷ at {FEW:,}"
    return Result([ratio(title, rounds, f"{MANY:,}", f"{FEW:,}", at_most=2)], rounds, unit=" ms")


@contextmanager
def _filled(accounts: int) -> Iterator[tuple[Server, str]]:
    with tempfile.TemporaryDirectory() as folder:
        moderator = insert_accounts(Path(folder) / "killrvideo.db", accounts, rare=MATCHING)[-1]
        with service(Path(folder)) as server:
            yield server, mint(moderator)


def _milliseconds(server: Server, token: str, seconds: float) -> float:
    """Return how long a call takes when calls are made one after another."""
    taken: list[float] = []
    with grpc.insecure_channel(server.address) as channel:
        stub, end = UserServiceStub(channel), time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.perf_counter()
            page = stub.SearchUsers(
                SearchUsersRequest(query=RARE_NAME), metadata=(("authorization", f"Bearer {token}"),), timeout=60
            )
            taken.append(time.perf_counter() - started)
            assert len(page.users) == 20
            assert page.next_page_token
    return statistics.median(taken) * 1000
