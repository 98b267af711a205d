"""The service on a Data API: how many requests each RPC makes, and what callers see when the Data API fails."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from killrvideo.user.v1 import user_service_pb2_grpc
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, RegisterRequest, UpdateMeRequest

from killrvideo_grpc.config import Settings
from killrvideo_grpc.server import UserServer, open_store
from tests.rpc.conftest import Metadata, Stub, bearer
from tests.support import data_api
from tests.support.accounts import PASSWORD, an_address
from tests.support.data_api import Close, Delay, ErrorAnswer, Hang, HttpStatus
from tests.support.errors import Failure, read_failure
from tests.support.keyspaces import KEYSPACE, prepared_stand_in
from tests.support.keyspaces import PASSWORD as DATABASE_PASSWORD
from tests.support.keyspaces import USERNAME as DATABASE_USERNAME
from tests.support.settings import settings_in

Code = grpc.StatusCode
ROW_FAULTS = [HttpStatus(500), ErrorAnswer("UNKNOWN_TABLE_COLUMNS", family="REQUEST")]


@pytest.fixture(scope="module")
def server() -> Iterator[data_api.DataApi]:
    with prepared_stand_in() as (server, _):
        yield server


@pytest.fixture(scope="module")
def stub(server: data_api.DataApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    settings = astra_settings(server, tmp_path_factory)
    service = UserServer(settings, open_store(settings))
    service.start()
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        yield user_service_pb2_grpc.UserServiceStub(channel)
    service.stop(0)


def astra_settings(server: data_api.DataApi, folders: pytest.TempPathFactory) -> Settings:
    return settings_in(
        folders.mktemp("astra"),
        store="astra",
        astra_db_api_endpoint=server.url,
        astra_db_keyspace=KEYSPACE,
        astra_db_environment="cassandra",
        astra_db_username=DATABASE_USERNAME,
        astra_db_password=DATABASE_PASSWORD,
        astra_db_timeout_seconds=2,
    )


@pytest.fixture
def email(stub: Stub, server: data_api.DataApi) -> Iterator[str]:
    email = an_address()
    stub.Register(RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee"))
    yield email
    server.clear_faults()
    while (failure := attempt(stub.Login, LoginRequest(email=email, password=PASSWORD))) is not None:
        assert failure.code is Code.UNAVAILABLE  # until health has looked again


@pytest.fixture
def metadata(stub: Stub, email: str) -> Metadata:
    return bearer(stub.Login(LoginRequest(email=email, password=PASSWORD)).token)


def attempt(call: Any, request: object, **options: object) -> Failure | None:
    try:
        call(request, **options)
    except grpc.RpcError as error:
        return read_failure(error)
    return None


def made_by(server: data_api.DataApi, call: Callable[[], object]) -> list[str]:
    """Returns the commands that reach the Data API during the call, health's own looks aside."""
    server.forget_requests()
    call()
    asked = [request for request in server.requests if request.arguments.get("filter") != {"_id": "-"}]
    return [f"{request.name}.{request.command}" for request in asked]


def test_requests_of_each_rpc(stub: Stub, server: data_api.DataApi, email: str, metadata: Metadata) -> None:
    registration = RegisterRequest(email=an_address(), password=PASSWORD, first_name="Ann", last_name="Lee")
    login = LoginRequest(email=email, password=PASSWORD)
    rename = UpdateMeRequest(first_name="Bea")
    claim, row = ["login_credentials.insertOne"], ["users.insertOne"]
    assert made_by(server, lambda: stub.Register(registration)) == claim + row
    assert made_by(server, lambda: attempt(stub.Register, registration)) == claim
    document, account, change = ["login_credentials.findOne"], ["users.findOne"], ["users.updateOne"]
    assert made_by(server, lambda: stub.Login(login)) == document + account + change
    assert made_by(server, lambda: attempt(stub.Login, LoginRequest(email=email, password="wrong"))) == document
    assert made_by(server, lambda: stub.GetMe(GetMeRequest(), metadata=metadata)) == account
    assert made_by(server, lambda: stub.UpdateMe(rename, metadata=metadata)) == account + change
    assert made_by(server, lambda: stub.UpdateMe(UpdateMeRequest(), metadata=metadata)) == account


def test_a_refused_call_asks_nothing(stub: Stub, server: data_api.DataApi) -> None:
    for call in (
        lambda: attempt(stub.GetMe, GetMeRequest()),
        lambda: attempt(stub.GetMe, GetMeRequest(), metadata=bearer("garbage")),
        lambda: attempt(stub.Register, RegisterRequest(email="nobody")),
    ):
        assert made_by(server, call) == []


@pytest.mark.parametrize("fault", [Close(), HttpStatus(401), HttpStatus(429), HttpStatus(503)], ids=repr)
def test_trouble_is_unavailable(
    stub: Stub, server: data_api.DataApi, email: str, metadata: Metadata, fault: data_api.faults.Kind
) -> None:
    server.fail(fault)
    for failure in (
        attempt(stub.GetMe, GetMeRequest(), metadata=metadata),
        attempt(stub.Login, LoginRequest(email=email, password=PASSWORD)),
        attempt(stub.UpdateMe, UpdateMeRequest(first_name="Bea"), metadata=metadata),
    ):
        assert failure
        assert (failure.code, failure.reason, failure.retry_seconds) == (Code.UNAVAILABLE, "STORE_UNAVAILABLE", 1)
        assert failure.message == "The user store is unavailable. Try again in a moment."


@pytest.mark.parametrize("fault", ROW_FAULTS, ids=repr)
def test_a_login_date_that_can_not_be_written_fails_no_login(
    stub: Stub, server: data_api.DataApi, email: str, fault: Any
) -> None:
    server.fail(fault, command="updateOne")
    assert stub.Login(LoginRequest(email=email, password=PASSWORD)).token


@pytest.mark.parametrize("fault", ROW_FAULTS, ids=repr)
def test_a_registration_stands_without_its_row(stub: Stub, server: data_api.DataApi, fault: Any) -> None:
    address = an_address()
    with server.fail(fault, command="insertOne", name="users"):
        stub.Register(RegisterRequest(email=address, password=PASSWORD, first_name="Ann", last_name="Lee"))
    while attempt(stub.Login, LoginRequest(email=address, password=PASSWORD)) is not None:
        pass  # until health has looked again


def test_calls_that_fail_do_not_hurry_health(stub: Stub, server: data_api.DataApi, email: str) -> None:
    server.fail(HttpStatus(500))
    while attempt(stub.Login, LoginRequest(email=email, password=PASSWORD)) is None:
        pass
    server.forget_requests()
    for _ in range(100):
        assert attempt(stub.Login, LoginRequest(email=email, password=PASSWORD)) is not None
    pings = [request for request in server.requests if request.arguments.get("filter") == {"_id": "-"}]
    assert len(pings) < 50  # one a second, which a slow machine may need some of


def test_hanging_calls_end_in_time_and_leave_room_for_others(
    stub: Stub, server: data_api.DataApi, email: str, metadata: Metadata
) -> None:
    server.fail(Hang())
    hanging = [stub.GetMe.future(GetMeRequest(), metadata=metadata, timeout=20) for _ in range(200)]
    server.wait_for(name="users")
    refused = attempt(stub.GetMe, GetMeRequest(), metadata=bearer("garbage"), timeout=20)
    assert refused
    assert refused.reason == "TOKEN_INVALID"
    assert {call.code() for call in hanging} == {Code.UNAVAILABLE}


def test_a_slow_data_api_is_waited_for(stub: Stub, server: data_api.DataApi, metadata: Metadata) -> None:
    server.fail(Delay(0.2), times=1)
    assert stub.GetMe(GetMeRequest(), metadata=metadata).first_name == "Ann"


def test_a_login_repairs_a_row_that_was_lost(stub: Stub, server: data_api.DataApi) -> None:
    email = an_address()
    server.fail(HttpStatus(500), command="insertOne", name="users", times=2)
    stub.Register(RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee"))
    login = stub.Login(LoginRequest(email=email, password=PASSWORD))
    assert stub.GetMe(GetMeRequest(), metadata=bearer(login.token)).email == email
