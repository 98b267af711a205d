"""`make web` is stopped under load: every call is answered, or its connection is refused."""

import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore

import grpc
import httpx
from killrvideo.user.v1.user_service_pb2 import GetMeRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.server.dev_server import DRAIN_SECONDS
from tests.rest.conftest import USERS, Account, Edge, registered, web

CALLERS = 16
REFUSED = "connection refused"
Answered = Callable[[], None]


def over_http_1(edge: Edge, account: Account, answered: Answered) -> str:
    """Make REST calls, on one connection as long as the edge keeps it, until one fails. Return how it failed."""
    with httpx.Client(verify=False, base_url=edge.url, timeout=30) as client:
        while True:
            try:
                answer = client.get(f"{USERS}/me", headers=account.bearer)
            except httpx.ConnectError as error:
                return REFUSED if "Connection refused" in str(error) else repr(error)
            except httpx.HTTPError as error:
                return repr(error)
            if answer.status_code != httpx.codes.OK:
                return answer.text
            answered()


def over_http_2(edge: Edge, account: Account, answered: Answered) -> str:
    """Do the same over gRPC."""
    options = [("grpc.use_local_subchannel_pool", 1)]  # gives each caller its own connection
    with grpc.insecure_channel(edge.url.removeprefix("http://"), options) as channel:
        stub = UserServiceStub(channel)
        while True:
            try:
                stub.GetMe(GetMeRequest(), metadata=tuple(account.bearer.items()), timeout=30)
            except grpc.RpcError as error:
                return REFUSED if "Connection refused" in str(error) else str(error)
            answered()


def test_no_call_fails_when_it_is_stopped(tmp_path: Path) -> None:
    answers = Semaphore(0)
    with web(tmp_path, drain_seconds=str(DRAIN_SECONDS), WORKERS="2") as edge, ThreadPoolExecutor(CALLERS) as callers:
        with httpx.Client(verify=False, base_url=edge.url, timeout=30) as client:
            account = registered(client)
        ways = [over_http_1, over_http_2] * (CALLERS // 2)
        calls = [callers.submit(call, edge, account, answers.release) for call in ways]
        for _ in range(20 * CALLERS):
            assert answers.acquire(timeout=30)
        edge.process.send_signal(signal.SIGTERM)
        assert Counter(ended.result(60) for ended in calls) == {REFUSED: CALLERS}
    assert '"status":503' not in edge.log.read_text()
