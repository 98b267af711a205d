"""The whole server as it is composed: health, reflection, refusals, TLS, stopping."""

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
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, RegisterRequest

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.server import (
    HASHING_THREADS,
    HEALTH_THREADS,
    REFLECTION_THREADS,
    CannotListen,
    UserServer,
    open_store,
)
from tests.support.accounts import PASSWORD, an_address
from tests.support.errors import read_failure
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
def server(tmp_path: Path, store: FlakyStore) -> Iterator[UserServer]:
    server = UserServer(settings_in(tmp_path), store, arrival_seconds=1)
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def channel(server: UserServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
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


def test_health_follows_the_store_and_liveness_does_not(channel: grpc.Channel, store: FlakyStore) -> None:
    seen = watch(channel, SERVICE)
    assert next(seen) == SERVING
    store.error = StoreUnavailable()
    with pytest.raises(grpc.RpcError) as caught:  # trouble in a call brings the next look at the store forward
        user_service_pb2_grpc.UserServiceStub(channel).Login(LoginRequest(email="ann@example.org", password="wrong"))
    assert read_failure(caught.value).reason == "STORE_UNAVAILABLE"
    assert next(seen) == NOT_SERVING
    assert health_of(channel, "") == SERVING
    store.error = None
    assert next(seen) == SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_is_open_and_whole(channel: grpc.Channel, version: str) -> None:
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


def test_calls_whose_message_never_comes_give_their_threads_back(channel: grpc.Channel) -> None:
    forever = Event()

    def requests() -> Iterator[bytes]:
        forever.wait(30)
        yield b""

    reflection: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    idle = [reflection(requests()) for _ in range(REFLECTION_THREADS)]
    login: Any = channel.stream_unary(f"/{SERVICE}/Login")
    idle += [login.future(requests()) for _ in range(HASHING_THREADS)]
    health: Any = channel.stream_unary("/grpc.health.v1.Health/Check")
    idle += [health.future(requests()) for _ in range(HEALTH_THREADS - 1)]
    stub = user_service_pb2_grpc.UserServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:  # calls on other threads do not notice
        stub.GetMe(GetMeRequest(), timeout=10)
    assert read_failure(caught.value).reason == "NOT_AUTHENTICATED"
    assert health_of(channel, "") == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Login(LoginRequest(email=an_address(), password=PASSWORD), timeout=20)
    assert read_failure(caught.value).reason == "INVALID_CREDENTIALS"
    assert list(reflection(iter([b"\x3a\x01*"]), timeout=20))  # list_services: "*"
    assert {call.code() for call in idle} == {Code.CANCELLED}
    forever.set()


def test_too_many_logins_are_refused_and_other_calls_are_not(channel: grpc.Channel, store: FlakyStore) -> None:
    stub = user_service_pb2_grpc.UserServiceStub(channel)
    login = LoginRequest(email=an_address(), password=PASSWORD)
    store.go_on.clear()
    calls = [stub.Login.future(login, timeout=120) for _ in range(400)]
    refused: Any = next(call for call in reversed(calls) if call.exception())
    failure = read_failure(refused)
    assert (failure.code, failure.reason, failure.retry_seconds) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetMe(GetMeRequest(), timeout=10)
    assert read_failure(caught.value).code is Code.UNAUTHENTICATED
    store.go_on.set()
    codes = {call.code() for call in calls}
    assert codes == {Code.RESOURCE_EXHAUSTED, Code.UNAUTHENTICATED}


def test_calls_under_way_end_before_the_server_does(
    server: UserServer, channel: grpc.Channel, store: FlakyStore
) -> None:
    stub = user_service_pb2_grpc.UserServiceStub(channel)
    email = an_address()
    stub.Register(RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee"))
    store.go_on.clear()
    store.waiting.clear()
    under_way = stub.Login.future(LoginRequest(email=email, password=PASSWORD), timeout=30)
    assert store.waiting.wait(10)
    server.stop_serving()
    assert (health_of(channel, ""), health_of(channel, SERVICE)) == (NOT_SERVING, NOT_SERVING)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(server.stop, 20)
        store.go_on.set()
        assert under_way.result().token
        stopping.result(20)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetMe(GetMeRequest(), timeout=5)
    assert read_failure(caught.value).code is Code.UNAVAILABLE


def test_a_taken_port(server: UserServer, tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=f"127.0.0.1:{server.port}: Address already in use"):
        UserServer(settings_in(tmp_path, grpc_port=server.port), open_store(settings_in(tmp_path)))
