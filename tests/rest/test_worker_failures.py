"""What callers of the edge and of siblings see while workers die, freeze or stop: another one takes over."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from killrvideo_grpc.server.dev_server import DRAIN_SECONDS
from tests.rest.conftest import USERS, Account, Edge, command_of, problem, registered, web
from tests.rest.test_siblings import VIDEOS
from tests.support.eventually import eventually
from tests.support.load import load
from tests.support.metrics import Scraped
from tests.support.ports import free_port
from tests.support.process import children, wait_for_end
from tests.support.sibling import running_sibling

METRICS_PORT = free_port(2)


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge of two workers, with a sibling."""
    settings = {"WORKERS": "2", "METRICS_PORT": str(METRICS_PORT)}
    with (
        running_sibling() as sibling,
        web(tmp_path_factory.mktemp("pair"), str(DRAIN_SECONDS), SIBLINGS_URL=sibling.url, **settings) as edge,
    ):
        assert f"siblings {sibling.url}" in edge.banner
        yield edge


@pytest.fixture
def pair(shared_pair: Edge, client: httpx.Client) -> Edge:
    """Return the module's edge, once it sends calls to both workers."""
    wait_until_both_are_called(lambda: client.get(f"{USERS}/me"))
    return shared_pair


@pytest.fixture(scope="module")
def client(shared_pair: Edge) -> Iterator[httpx.Client]:
    with httpx.Client(verify=False, base_url=shared_pair.url, timeout=60) as client:
        yield client


@pytest.fixture
def account(pair: Edge, client: httpx.Client) -> Account:
    return registered(client)


def wait_until_both_are_called(call: Callable[[], object]) -> None:
    """Make calls until Envoy sends them to both workers."""
    before = calls_of_workers()

    def both_are_called() -> bool:
        call()
        return all(now > then for now, then in zip(calls_of_workers(), before, strict=True))

    eventually(both_are_called)


def calls_of_workers() -> list[float]:
    """Return how many calls each worker has answered, or 0 for one that does not run."""
    counts = []
    for port in (METRICS_PORT, METRICS_PORT + 1):
        try:
            counts.append(Scraped(port).value("calls_total", method="GetMe"))
        except httpx.TransportError:
            counts.append(0)
    return counts


def workers_of(edge: Edge) -> list[int]:
    """Return the processes of the workers: the children of the supervisor, which is a child of `make web`."""
    (supervisor,) = [child for child in children(edge.process.pid) if "killrvideo-grpc" in command_of(child)]
    return children(supervisor)


Call = Callable[[], httpx.Response]


def calls_of(client: httpx.Client, account: Account) -> tuple[Call, Call, Call]:
    """Return calls that read, that a sibling answers once their token is checked, and that write."""
    return (
        lambda: client.get(f"{USERS}/me", headers=account.bearer),
        lambda: client.get(VIDEOS, headers=account.bearer),
        lambda: client.put(f"{USERS}/me", json={"firstName": "Bea"}, headers=account.bearer),
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_under_load_costs_no_call(
    pair: Edge, client: httpx.Client, account: Account, number: signal.Signals
) -> None:
    """If it is killed, no read or check fails. If it is stopped, no write fails either."""
    read, check, write = calls_of(client, account)
    calm = Event()
    calls = [
        lambda call=call: call().status_code for call in (read, check, write if number is signal.SIGTERM else read)
    ]
    # A full load would delay the new worker.
    with load(calls * 2, 200, lambda: 0.1 if calm.is_set() else 0.03) as wait_for:
        victim = workers_of(pair)[0]
        os.kill(victim, number)
        eventually(lambda: victim not in workers_of(pair))
        wait_for(100)
        calm.set()
        eventually(lambda: len(workers_of(pair)) == 2)
        wait_until_both_are_called(lambda: wait_for(20))


def test_a_frozen_worker_fails_no_read_and_delays_no_write_beyond_its_deadline(
    pair: Edge, client: httpx.Client, account: Account
) -> None:
    read, check, write = calls_of(client, account)
    with ThreadPoolExecutor(24) as callers:
        victim = workers_of(pair)[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            writes = [callers.submit(write) for _ in range(8)]
            others = [callers.submit(call) for call in [read] * 8 + [check] * 40]
            assert {other.result().status_code for other in others} == {200}
            assert {write.result().status_code for write in writes} == {200, 504}
            # 10 s is the default deadline, and 30 s the maximum.
            assert max(write.result().elapsed.total_seconds() for write in writes) < 20
        finally:
            os.kill(victim, signal.SIGCONT)
        assert {answer.status_code for answer in callers.map(lambda _: check(), range(40))} == {200}


def test_the_check_has_the_id_of_the_request(pair: Edge, client: httpx.Client) -> None:
    headers = {"x-request-id": "id-of-a-request", "authorization": "Bearer x"}
    assert client.get(VIDEOS, headers=headers).status_code == 401

    def logged() -> bool:
        lines = [line for line in pair.log.read_text().splitlines() if "request_id=id-of-a-request" in line]
        return any("Authorization/Check" in line and "denied=TOKEN_INVALID" in line for line in lines)

    eventually(logged)


def test_without_workers_only_requests_without_a_token_pass(pair: Edge, client: httpx.Client, account: Account) -> None:
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


def test_nothing_outlives_make_web(tmp_path: Path) -> None:
    with web(tmp_path) as edge:
        left = children(edge.process.pid)
        assert len(left) == 2  # Envoy and the service
        edge.process.kill()
        edge.process.wait(10)
    for process in left:
        wait_for_end(process)
