"""The server as composed for production: health, reflection, refusals, TLS, stopping."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from killrvideo.user.v1 import user_service_pb2_grpc
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest

from killrvideo_grpc.domain.errors import SetupError, StoreUnavailable
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.errors import read_failure
from tests.support.eventually import eventually
from tests.support.http2 import started_calls
from tests.support.servers import RunningServer, running_server
from tests.support.settings import settings_in
from tests.support.stores import FlakyStore

Code = grpc.StatusCode
SERVICE = "killrvideo.user.v1.UserService"
Status = health_pb2.HealthCheckResponse
SERVING, NOT_SERVING = Status.SERVING, Status.NOT_SERVING


@pytest.fixture
def store(tmp_path: Path) -> FlakyStore:
    return FlakyStore(tmp_path / "killrvideo.db")


@pytest.fixture
def server(tmp_path: Path, store: FlakyStore) -> Iterator[RunningServer]:
    with running_server(settings_in(tmp_path), store, receive_timeout=1) as server:
        yield server


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as channel:
        yield channel


def health_of(channel: grpc.Channel, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status
    return status


def watch(channel: grpc.Channel, name: str) -> Iterator[int]:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return (answer.status for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20))


def test_health_knows_both_names(channel: grpc.Channel) -> None:
    assert (health_of(channel, ""), health_of(channel, SERVICE)) == (SERVING, SERVING)
    with pytest.raises(grpc.RpcError) as caught:
        health_of(channel, "nobody")
    assert read_failure(caught.value).code is Code.NOT_FOUND


def test_health_lists_both_names(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthListRequest()  # type: ignore[attr-defined] # the stubs are older
    answer = stub.List(request, timeout=10)
    assert {name: status.status for name, status in answer.statuses.items()} == {"": SERVING, SERVICE: SERVING}


def test_health_follows_the_store_and_liveness_does_not(channel: grpc.Channel, store: FlakyStore) -> None:
    seen = watch(channel, SERVICE)
    assert next(seen) == SERVING
    store.error = StoreUnavailable()
    with pytest.raises(grpc.RpcError) as caught:  # a failed call brings the next check of the store forward
        user_service_pb2_grpc.UserServiceStub(channel).Login(LoginRequest(email="ann@example.org", password="wrong"))
    assert read_failure(caught.value).reason == "STORE_UNAVAILABLE"
    assert next(seen) == NOT_SERVING
    assert health_of(channel, "") == SERVING
    store.error = None
    assert next(seen) == SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_is_public_and_complete(channel: grpc.Channel, version: str) -> None:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    symbols = [SERVICE, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection", "google.rpc.BadRequest"]
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    listed, *found = ask(iter(requests), timeout=10)
    assert {service.name for service in listed.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in found)


def silent(channel: grpc.Channel, path: str, calls: int, over: Event, kind: str = "stream_unary") -> list[Any]:
    """Start calls that send their headers and then no message until `over` is set."""

    def requests() -> Iterator[bytes]:
        over.wait(60)
        yield b""

    method: Any = getattr(channel, kind)(path)
    start = method.future if kind == "stream_unary" else method
    return [start(requests()) for _ in range(calls)]


def test_calls_whose_message_never_comes_end_and_delay_nobody(channel: grpc.Channel) -> None:
    over, stub = Event(), user_service_pb2_grpc.UserServiceStub(channel)
    idle = silent(channel, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 20, over, "stream_stream")
    idle += silent(channel, "/grpc.health.v1.Health/Watch", 20, over, "stream_stream")
    idle += silent(channel, "/grpc.health.v1.Health/Check", 20, over)
    idle += silent(channel, f"/{SERVICE}/Login", 60, over)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetMe(GetMeRequest(), timeout=10)
    assert read_failure(caught.value).reason == "NOT_AUTHENTICATED"
    assert health_of(channel, "") == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Login(LoginRequest(email=an_address(), password=PASSWORD), timeout=20)
    assert read_failure(caught.value).reason == "INVALID_CREDENTIALS"
    assert {call.code() for call in idle} == {Code.DEADLINE_EXCEEDED}
    assert {call.details() for call in idle} == {"This took too long. Try again in a moment."}
    over.set()


def test_calls_that_wait_for_their_message_do_not_count_towards_the_limit(tmp_path: Path) -> None:
    over, settings = Event(), settings_in(tmp_path, max_concurrent_rpcs=2)
    with running_server(settings) as server, grpc.insecure_channel(server.target) as channel:
        stub = user_service_pb2_grpc.UserServiceStub(channel)
        silent(channel, f"/{SERVICE}/Login", 50, over)
        for _ in range(20):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Login(LoginRequest(email=an_address(), password=PASSWORD), timeout=20)
            assert read_failure(caught.value).reason == "INVALID_CREDENTIALS"
        over.set()


def test_calls_beyond_the_limit_are_refused_and_health_is_not(tmp_path: Path) -> None:
    store, settings = FlakyStore(tmp_path / "killrvideo.db"), settings_in(tmp_path, max_concurrent_rpcs=3)
    with running_server(settings, store) as server, grpc.insecure_channel(server.target) as channel:
        stub = user_service_pb2_grpc.UserServiceStub(channel)
        login = LoginRequest(email=an_address(), password=PASSWORD)
        store.go_on.clear()
        calls: list[Any] = [stub.Login.future(login, timeout=60) for _ in range(10)]
        eventually(lambda: sum(call.done() for call in calls) == 7)
        failures = [read_failure(call.exception()) for call in calls if call.done()]
        assert {(failure.code, failure.reason, failure.retry_seconds) for failure in failures} == {
            (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1)
        }
        assert health_of(channel, "") == SERVING
        store.go_on.set()
        assert Counter(call.code() for call in calls) == {Code.RESOURCE_EXHAUSTED: 7, Code.UNAUTHENTICATED: 3}


def test_calls_count_towards_the_limit_once_their_message_is_there(tmp_path: Path) -> None:
    """Even if it comes late, and while many silent health checks are open."""
    store, settings = FlakyStore(tmp_path / "killrvideo.db"), settings_in(tmp_path, max_concurrent_rpcs=4)
    login = LoginRequest(email=an_address(), password=PASSWORD).SerializeToString()
    send = Event()

    def late() -> Iterator[bytes]:
        send.wait(20)
        yield login

    with running_server(settings, store) as server, grpc.insecure_channel(server.target) as channel:
        store.go_on.clear()
        with started_calls(server.port, "/grpc.health.v1.Health/Check", 50):
            method: Any = channel.stream_unary(f"/{SERVICE}/Login")
            calls = [method.future(late(), timeout=60) for _ in range(20)]
            send.set()
            eventually(lambda: sum(call.done() for call in calls) == 16)
            store.go_on.set()
            assert Counter(call.code() for call in calls) == {Code.RESOURCE_EXHAUSTED: 16, Code.UNAUTHENTICATED: 4}


def test_a_watcher_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    """Its window is closed, so it never accepts what the server writes."""
    store = FlakyStore(tmp_path / "killrvideo.db")
    with running_server(settings_in(tmp_path), store) as server:
        watches = "/grpc.health.v1.Health/Watch"
        deaf = started_calls(server.port, watches, 3, window=0, message=b"")
        with grpc.insecure_channel(server.target) as channel:
            seen = watch(channel, "")
            assert next(seen) == SERVING
            server.report_not_serving()
            assert next(seen) == NOT_SERVING
            server.stop(0.5)
            assert list(seen) == []
        deaf.close()


def test_too_many_logins_are_refused_and_other_calls_are_not(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, bcrypt_rounds=9, max_failures_per_account=0, max_failures_per_account_and_source=0)
    with running_server(settings) as server, grpc.insecure_channel(server.target) as channel:
        stub = user_service_pb2_grpc.UserServiceStub(channel)
        login = LoginRequest(email=an_address(), password=PASSWORD)
        calls = [stub.Login.future(login, timeout=120) for _ in range(400)]
        refused: Any = next(call for call in reversed(calls) if call.code() is Code.RESOURCE_EXHAUSTED)
        failure = read_failure(refused)
        assert (failure.code, failure.reason, failure.retry_seconds) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetMe(GetMeRequest(), timeout=10)
        assert read_failure(caught.value).code is Code.UNAUTHENTICATED
        for call in calls:
            call.cancel()


def test_calls_under_way_are_answered_before_the_server_stops(
    server: RunningServer, channel: grpc.Channel, store: FlakyStore
) -> None:
    stub = user_service_pb2_grpc.UserServiceStub(channel)
    email = an_address()
    stub.Register(registration(email))
    store.go_on.clear()
    store.waiting.clear()
    under_way = stub.Login.future(LoginRequest(email=email, password=PASSWORD), timeout=30)
    assert store.waiting.wait(10)
    server.report_not_serving()
    eventually(lambda: (health_of(channel, ""), health_of(channel, SERVICE)) == (NOT_SERVING, NOT_SERVING))
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(server.stop, 20)
        store.go_on.set()
        assert under_way.result().token
        stopping.result(20)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetMe(GetMeRequest(), timeout=5)
    assert read_failure(caught.value).code is Code.UNAVAILABLE


def test_a_taken_port(server: RunningServer, tmp_path: Path) -> None:
    with (
        pytest.raises(SetupError, match=f"127.0.0.1:{server.port}: Address already in use"),
        running_server(settings_in(tmp_path, grpc_port=server.port)),
    ):
        pass
