"""A life on a Data API, with the command as processes: on the stand-in, and on a real one where there is one."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from threading import Barrier

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, RegisterRequest, UpdateMeRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.stores.data_api import CREDENTIALS, USERS, Connection
from tests.support.accounts import PASSWORD, an_address
from tests.support.errors import read_failure
from tests.support.keyspaces import REAL_URL, prepared_stand_in, real_keyspace
from tests.support.process import astra, run, running

KEYSPACES: dict[str, Callable[[], AbstractContextManager[Connection]]] = {}


@contextmanager
def stand_in() -> Iterator[Connection]:
    with prepared_stand_in() as (_, connection):
        yield connection


KEYSPACES["stand-in"] = stand_in
if REAL_URL:
    KEYSPACES["data-api"] = real_keyspace


@pytest.fixture(scope="module", params=list(KEYSPACES))
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    with KEYSPACES[request.param]() as connection:
        yield connection


@pytest.fixture
def settings(connection: Connection) -> dict[str, str]:
    return astra(connection)


def registration(email: str) -> RegisterRequest:
    return RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee")


def login(stub: UserServiceStub, email: str) -> tuple[tuple[str, str | bytes], ...]:
    token = stub.Login(LoginRequest(email=email, password=PASSWORD)).token
    return (("authorization", f"Bearer {token}"),)


def test_a_life(tmp_path: Path, settings: dict[str, str]) -> None:
    email = an_address()
    with running(tmp_path, **settings) as service, grpc.insecure_channel(service.target) as channel:
        stub = UserServiceStub(channel)
        user_id = stub.Register(registration(email.upper())).user_id
        metadata = login(stub, email)
        me = stub.GetMe(GetMeRequest(), metadata=metadata)
        assert (me.user_id, me.email, list(me.roles), me.account_status) == (
            user_id,
            email.upper(),
            ["viewer"],
            "active",
        )
        assert me.last_login_date.ToMilliseconds() >= me.created_date.ToMilliseconds() > 0
        stub.UpdateMe(UpdateMeRequest(first_name="Bé ✓"), metadata=metadata)
        assert run(tmp_path, "roles", "assign", email, "moderator", **settings).returncode == 0
        me = stub.GetMe(GetMeRequest(), metadata=metadata)
        assert (me.first_name, me.last_name, list(me.roles)) == ("Bé ✓", "Lee", ["viewer", "moderator"])
        with pytest.raises(grpc.RpcError) as caught:
            stub.Register(registration(email))
        assert read_failure(caught.value).reason == "EMAIL_ALREADY_REGISTERED"


def test_one_address_raced_for_over_two_processes_is_one_account(tmp_path: Path, settings: dict[str, str]) -> None:
    email, start = an_address(), Barrier(64)
    with ExitStack() as stack:
        services = [stack.enter_context(running(tmp_path, **settings)) for _ in range(2)]
        channels = [stack.enter_context(grpc.insecure_channel(service.target)) for service in services]

        def claim(number: int) -> grpc.StatusCode:
            start.wait(30)
            try:
                UserServiceStub(channels[number % 2]).Register(registration(email), timeout=60)
            except grpc.RpcError as error:
                return read_failure(error).code
            return grpc.StatusCode.OK

        with ThreadPoolExecutor(64) as pool:
            codes = Counter(pool.map(claim, range(64)))
        assert codes == {grpc.StatusCode.OK: 1, grpc.StatusCode.ALREADY_EXISTS: 63}
        stub = UserServiceStub(channels[0])
        assert stub.GetMe(GetMeRequest(), metadata=login(stub, email)).email == email


def test_a_suspension_and_a_deletion_bite_at_the_next_call(
    tmp_path: Path, connection: Connection, settings: dict[str, str]
) -> None:
    users = connection.open().get_table(USERS)
    with running(tmp_path, **settings) as service, grpc.insecure_channel(service.target) as channel:
        stub = UserServiceStub(channel)
        email = an_address()
        user_id = stub.Register(registration(email)).user_id
        metadata = login(stub, email)

        def reason() -> str | None:
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetMe(GetMeRequest(), metadata=metadata)
            return read_failure(caught.value).reason

        users.update_one({"userid": user_id}, {"$set": {"account_status": "suspended"}})
        assert reason() == "ACCOUNT_SUSPENDED"
        users.update_one({"userid": user_id}, {"$set": {"account_status": "active"}, "$unset": {"roles": ""}})
        assert reason() == "NO_ROLES_ASSIGNED"
        users.delete_one({"userid": user_id})
        assert reason() == "USER_NOT_FOUND"
        # The document is the account: a login brings the row back.
        assert stub.GetMe(GetMeRequest(), metadata=login(stub, email)).user_id == user_id


def test_schema_commands(tmp_path: Path, connection: Connection, settings: dict[str, str]) -> None:
    done = "has all that is needed"
    assert done in run(tmp_path, "schema", "create", **settings).stdout
    assert done in run(tmp_path, "schema", "create", "--keyspace", **settings).stdout
    users = connection.open().get_table(USERS)
    assert connection.open().get_collection(CREDENTIALS).find_one({"_id": "-"}) is None
    with running(tmp_path, **settings) as service, grpc.insecure_channel(service.target) as channel:
        user_id = UserServiceStub(channel).Register(registration(an_address())).user_id
    users.delete_one({"userid": user_id})
    checked = run(tmp_path, "schema", "check", "--repair", **settings)
    assert (checked.returncode, "Rows repaired: 1" in checked.stdout) == (0, True)
    assert users.find_one({"userid": user_id})
