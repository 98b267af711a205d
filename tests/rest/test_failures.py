"""What callers of the edge see when the service is down, slow or overloaded."""

import asyncio
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import httpx
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.domain.errors import Overloaded, StoreUnavailable
from killrvideo_grpc.edge.render import Edge as EdgeSettings
from killrvideo_grpc.server import grpc_server
from tests.rest.conftest import USERS, envoy, problem, registered
from tests.support.accounts import PASSWORD, an_address
from tests.support.errors import read_failure
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import running_server
from tests.support.settings import settings_in
from tests.support.stores import FlakyStore, undisturbed

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def flaky_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, FlakyStore]]:
    folder, port = tmp_path_factory.mktemp("troubled"), free_port()
    store = FlakyStore(folder / "killrvideo.db")
    with (
        running_server(settings_in(folder), store) as service,
        envoy(EdgeSettings(port=port, workers=[("127.0.0.1", service.port)])),
        httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        yield client, store


@pytest.fixture
def troubled(flaky_service: tuple[httpx.Client, FlakyStore]) -> Iterator[tuple[httpx.Client, FlakyStore]]:
    """A service whose store fails as a test wishes. The edge may still take it for down after another test."""
    client, store = flaky_service
    eventually(lambda: ready(client) == 401)
    yield client, store
    store.error = None


def ready(client: httpx.Client, path: str = f"{USERS}/me") -> int:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return 0


def test_no_cors_origin_is_allowed_by_default(troubled: tuple[httpx.Client, FlakyStore]) -> None:
    client, _ = troubled
    headers = {"origin": "http://localhost:5173", "access-control-request-method": "GET"}
    for answer in (client.options(f"{USERS}/me", headers=headers), client.get(f"{USERS}/me", headers=headers)):
        assert "access-control-allow-origin" not in answer.headers


def login(client: httpx.Client, **options: Any) -> httpx.Response:
    return client.post(f"{USERS}/login", json={"email": an_address(), "password": PASSWORD}, **options)


def test_a_store_that_is_down(troubled: tuple[httpx.Client, FlakyStore]) -> None:
    client, store = troubled
    store.error = StoreUnavailable()
    answer = login(client)
    store.error = None
    problem(answer, 503, "STORE_UNAVAILABLE", "The user store is unavailable. Try again in a moment.")
    assert answer.headers["retry-after"] == "1"


def test_an_overloaded_service(troubled: tuple[httpx.Client, FlakyStore]) -> None:
    client, store = troubled
    store.error = Overloaded()
    answer = login(client)
    store.error = None
    problem(answer, 429, "OVERLOADED", "The service is overloaded. Try again in a moment.")
    assert answer.headers["retry-after"] == "1"


def test_a_service_with_too_many_calls_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no more calls may wait, grpcio ends them with CANCELLED. Callers of the edge see what that means.

    The first responses on Envoy's connection are such refusals too.
    """
    monkeypatch.setattr(grpc_server, "MAX_PENDING", 0)
    port, message = free_port(), "The service is overloaded. Try again in a moment."
    with (
        running_server(settings_in(tmp_path)) as service,
        envoy(EdgeSettings(port=port, workers=[("127.0.0.1", service.port)])),
        httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        ThreadPoolExecutor(32) as pool,
    ):
        eventually(lambda: ready(client, "/openapi.json") == 200)  # opens no connection to the service
        stub = UserServiceStub(channel)
        calls: list[Any] = [stub.GetMe.future(GetMeRequest()) for _ in range(500)]
        failures = [read_failure(call.exception()) for call in calls]
        assert {failure.code for failure in failures} == {Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED}
        refusals = {failure.message: failure for failure in failures if failure.code is Code.RESOURCE_EXHAUSTED}
        assert [(failure.reason, failure.retry_seconds) for failure in refusals.values()] == [("OVERLOADED", 1)]
        assert refusals.keys() == {message}

        answers = list(pool.map(lambda _: client.get(f"{USERS}/me"), range(500)))
        assert {answer.status_code for answer in answers} == {401, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        problem(refused, 429, "OVERLOADED", message)
        assert refused.headers["retry-after"] == "1"


def test_a_bug(troubled: tuple[httpx.Client, FlakyStore]) -> None:
    client, store = troubled
    for store.error in (sqlite3.NotSupportedError("planted"), ValueError("planted")):
        problem(login(client), 500, detail="An unexpected internal server error occurred.")
    store.error = None


def test_the_callers_deadline_is_passed_on(
    troubled: tuple[httpx.Client, FlakyStore],
) -> None:
    client, store = troubled
    store.go_on.clear()
    answer = login(client, headers={"grpc-timeout": "200m"})
    store.go_on.set()
    problem(answer, 504, detail="This took too long. Try again in a moment.")
    assert answer.elapsed.total_seconds() < 5  # 10 s is the default deadline, and the store takes 20 s


def test_a_slow_store_is_waited_for(troubled: tuple[httpx.Client, FlakyStore]) -> None:
    """The second try after 3 s, meant for hanging workers, does not abandon the first one."""
    client, store = troubled
    account, asked_again, answered = registered(client), Event(), Event()

    async def first_once_asked_again() -> None:
        if store.reads == 1:
            await asyncio.to_thread(asked_again.wait, 20)
        else:
            asked_again.set()
            await asyncio.to_thread(answered.wait, 20)

    store.reads, store.on_read = 0, first_once_asked_again
    answer = client.get(f"{USERS}/me", headers=account.bearer)
    answered.set()
    store.on_read = undisturbed
    assert (answer.status_code, store.reads) == (200, 2)


def test_a_service_that_is_down(tmp_path: Path) -> None:
    port = free_port()
    with (
        envoy(EdgeSettings(port=port, workers=[("127.0.0.1", free_port())])),
        httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        eventually(lambda: ready(client))
        answer = client.get(f"{USERS}/me")
        problem(answer, 503, detail="The service is unavailable. Try again in a moment.")
        assert answer.headers["retry-after"] == "1"
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            UserServiceStub(channel).GetMe(GetMeRequest(), timeout=20)
        failure = read_failure(caught.value)
        assert (failure.code, failure.message) == (grpc.StatusCode.UNAVAILABLE, answer.json()["detail"])
