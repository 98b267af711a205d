"""Requests for siblings while workers die, freeze or stop: the check moves on to another."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Semaphore

import httpx
import pytest

from killrvideo_grpc.server.dev_server import DRAIN_SECONDS
from tests.rest.conftest import USERS, Edge, problem, registered, web
from tests.rest.test_failures import wait_for, workers_of
from tests.rest.test_siblings import VIDEOS
from tests.support.eventually import eventually
from tests.support.metrics import Scraped
from tests.support.ports import free_port
from tests.support.sibling import running_sibling

CALLERS = 8


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port(2)


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[Edge]:
    """An edge of two workers, with a sibling."""
    settings = {"WORKERS": "2", "METRICS_PORT": str(metrics_port)}
    with (
        running_sibling() as sibling,
        web(tmp_path_factory.mktemp("pair"), str(DRAIN_SECONDS), SIBLINGS_URL=sibling.url, **settings) as edge,
    ):
        assert f"siblings {sibling.url}" in edge.banner
        yield edge


@pytest.fixture
def pair(shared_pair: Edge, metrics_port: int) -> Edge:
    """Return the module's edge, once it sends calls to both workers."""

    def calls(worker: int) -> float:
        try:
            return Scraped(metrics_port + worker).value("calls_total", method="GetMe")
        except httpx.TransportError:  # it has yet to start
            return 0

    before = [calls(worker) for worker in range(2)]
    with httpx.Client(base_url=shared_pair.url, timeout=30) as client:

        def both_are_called() -> bool:
            client.get(f"{USERS}/me")
            return all(before[worker] < calls(worker) for worker in range(2))

        eventually(both_are_called)
    return shared_pair


@contextmanager
def checked_requests(edge: Edge) -> Iterator[Callable[[int], None]]:
    """Send requests with a token all the time, and provide a wait for further ones. All must pass."""
    answered, ended = Semaphore(0), Event()
    with httpx.Client(base_url=edge.url, timeout=30) as client, ThreadPoolExecutor(CALLERS) as callers:
        account = registered(client)

        def send() -> Counter[int]:
            codes = Counter[int]()
            while not ended.is_set():
                codes[client.get(VIDEOS, headers=account.bearer).status_code] += 1
                answered.release()
            return codes

        def wait_for_more(count: int) -> None:
            while answered.acquire(blocking=False):
                pass
            wait_for(answered, count)

        sending = [callers.submit(send) for _ in range(CALLERS)]
        try:
            wait_for(answered, 100)
            yield wait_for_more
        finally:
            ended.set()
        assert {code for each in sending for code in each.result(60)} == {200}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_or_replaced_fails_no_request(pair: Edge, number: signal.Signals) -> None:
    with checked_requests(pair) as wait_for_more:
        victim = workers_of(pair)[0]
        os.kill(victim, number)
        eventually(lambda: victim not in (workers := workers_of(pair)) and len(workers) == 2)
        wait_for_more(200)


def test_a_frozen_worker_fails_no_request(pair: Edge) -> None:
    with checked_requests(pair) as wait_for_more:
        victim = workers_of(pair)[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            wait_for_more(200)
        finally:
            os.kill(victim, signal.SIGCONT)
        wait_for_more(100)


def test_the_check_has_the_id_of_the_request(pair: Edge) -> None:
    headers = {"x-request-id": "id-of-a-request", "authorization": "Bearer x"}
    assert httpx.get(f"{pair.url}{VIDEOS}", headers=headers).status_code == 401

    def logged() -> bool:
        lines = [line for line in pair.log.read_text().splitlines() if "request_id=id-of-a-request" in line]
        return any("Authorization/Check" in line and "denied=TOKEN_INVALID" in line for line in lines)

    eventually(logged)


def test_without_workers_only_requests_without_a_token_pass(pair: Edge) -> None:
    with httpx.Client(base_url=pair.url, timeout=30) as client:
        account = registered(client)
        stopped = workers_of(pair)
        for worker in stopped:
            os.kill(worker, signal.SIGSTOP)
        try:
            answer = client.get(VIDEOS, headers=account.bearer)
            problem(answer, 503, detail="The service is unavailable. Try again in a moment.")
            assert answer.headers["retry-after"] == "1"
            assert client.get(VIDEOS).status_code == 200
        finally:
            for worker in stopped:
                os.kill(worker, signal.SIGCONT)
        eventually(lambda: client.get(VIDEOS, headers=account.bearer).status_code == 200)
