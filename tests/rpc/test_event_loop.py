"""Nothing blocks the event loop: neither the work of an RPC nor thousands of silent callers."""

import asyncio
import logging
import re
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.rpc.conftest import Account
from tests.rpc.requests import RPCS, empower, good_request, metadata_for
from tests.support.accounts import PASSWORD
from tests.support.calls import bearer
from tests.support.eventually import eventually
from tests.support.http2 import codes_of_calls, started_calls
from tests.support.servers import running_server
from tests.support.settings import settings_in

SLOW_SECONDS = 0.01
ROUNDS = 20
BURST = 2000
PATIENCE = 30.0
TOOK = re.compile(r"Executing (.*) took ([\d.]+) seconds")


@pytest.fixture
def slow(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Collect asyncio's debug warnings about callbacks that took too long."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if match := TOOK.search(record.getMessage()):
                found.append(f"{match[2]} s: {match[1]}")

    logger, collector = logging.getLogger("asyncio"), Collector()
    logger.addHandler(collector)
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield found
    logger.setLevel(level)
    logger.removeHandler(collector)


def watched_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = SLOW_SECONDS
    return loop


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[UserServiceStub, Path]]:
    """A service on a watched loop, and its database."""
    settings = settings_in(tmp_path_factory.mktemp("watched"), bcrypt_rounds=8)
    with running_server(settings, new_loop=watched_loop) as server, grpc.insecure_channel(server.target) as channel:
        yield UserServiceStub(channel), settings.sqlite_path


@pytest.mark.parametrize("rpc", RPCS)
def test_no_rpc_blocks_the_loop(watched: tuple[UserServiceStub, Path], slow: list[str], rpc: str) -> None:
    """A busy machine can pause any process for 10 ms, so one fast round suffices. A hash would always take longer."""
    stub, database = watched
    rounds: list[list[str]] = []
    while [] not in rounds and len(rounds) < ROUNDS:
        account = Account(stub, database)
        empower(account, rpc)
        request = good_request(rpc, account)
        slow.clear()
        getattr(stub, rpc)(request, metadata=metadata_for(rpc, account))
        rounds.append(slow.copy())
    assert [] in rounds, rounds


def test_a_blocked_loop_is_detected(slow: list[str]) -> None:
    async def block() -> None:
        time.sleep(2 * SLOW_SECONDS)  # noqa: ASYNC251 # blocks on purpose

    with asyncio.Runner(loop_factory=watched_loop) as runner:
        runner.run(block())
    assert "block()" in slow[0]


def test_all_calls_of_a_burst_are_accepted(tmp_path: Path) -> None:
    """Until all have arrived, the loop is too busy to accept any. By default, grpcio would end some with CANCELLED."""
    arrived = threading.Event()
    with running_server(settings_in(tmp_path, max_concurrent_rpcs=BURST)) as server:
        server.loop.loop.call_soon_threadsafe(arrived.wait, PATIENCE)
        codes = codes_of_calls(server.port, "/killrvideo.user.v1.UserService/GetMe", BURST, b"", arrived.set)
    assert codes == {grpc.StatusCode.UNAUTHENTICATED.value[0]: BURST}


def test_thousands_of_silent_calls_delay_neither_get_me_nor_login(tmp_path: Path) -> None:
    """If a silent call held a resource, it would hold it for longer than the other calls may take."""
    settings = settings_in(tmp_path)
    with (
        running_server(settings, receive_timeout=2 * PATIENCE) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = UserServiceStub(channel)
        account = Account(stub, settings.sqlite_path)
        quiet = seconds_of(stub, account)
        with started_calls(server.port, "/killrvideo.user.v1.UserService/Login", BURST):
            # While the server accepts them, it is slower for others.
            eventually(lambda: seconds_of(stub, account) < 2 * quiet + 0.05)


def seconds_of(stub: UserServiceStub, account: Account) -> float:
    """Return the usual time of a GetMe and a Login together: a busy machine always delays some of them."""
    seconds = []
    for _ in range(15):
        started = time.monotonic()
        stub.GetMe(GetMeRequest(), metadata=account.metadata, timeout=PATIENCE)
        login = stub.Login(LoginRequest(email=account.email, password=PASSWORD), timeout=PATIENCE)
        seconds.append(time.monotonic() - started)
        account.metadata = bearer(login.token)  # the oldest of more than twenty sessions ends
    return statistics.median(seconds)
