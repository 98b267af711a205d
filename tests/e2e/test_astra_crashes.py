"""A process is killed (kill -9) between two writes to a Data API, and another process goes on with what it left."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import DeleteMeRequest, GetMeRequest, LoginRequest, RegisterRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS, DataApi, Keyspace
from tests.support import fake_data_api
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import bearer, registration
from tests.support.errors import read_failure
from tests.support.eventually import eventually
from tests.support.keyspaces import KEYSPACE, keyspace_at, prepared_fake
from tests.support.process import astra, run, running

Code = grpc.StatusCode
Metadata = tuple[tuple[str, str | bytes], ...]

PATIENCE = 30.0
# The writes of a registration, in order. tests/stores/astra/test_crashes.py stops at every one.
EVENT = ["event of the account", "day listed", "event of the day"]
REGISTRATION = ["account", "claim", "row", *EVENT, "outbox cleared"]


class Stop:
    """A fault that holds a request forever. `reached` is set when a request has arrived."""

    def __init__(self) -> None:
        self.reached = Event()

    async def meet(self, fault: fake_data_api.Fault, *_: object) -> None:
        self.reached.set()
        await fault.wait()


class Door(fake_data_api.FakeDataApi):
    """A second address of a fake, used by one process: faults set here don't affect the others' requests."""

    def __init__(self, server: fake_data_api.FakeDataApi) -> None:
        super().__init__(username=server.username, password=server.password)
        self._server_behind = server

    def execute(self, path: list[str], body: Any) -> dict[str, Any]:
        return self._server_behind.execute(path, body)


@pytest.fixture(scope="module")
def prepared() -> Iterator[tuple[fake_data_api.FakeDataApi, Keyspace]]:
    with prepared_fake() as prepared:
        yield prepared


@pytest.fixture(scope="module")
def server(prepared: tuple[fake_data_api.FakeDataApi, Keyspace]) -> fake_data_api.FakeDataApi:
    return prepared[0]


@pytest.fixture(scope="module")
def keyspace(prepared: tuple[fake_data_api.FakeDataApi, Keyspace]) -> Keyspace:
    return prepared[1]


@pytest.fixture(scope="module")
def survivor(keyspace: Keyspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserServiceStub]:
    """Another process of the service, which survives."""
    folder = tmp_path_factory.mktemp("survivor")
    with running(folder, **astra(keyspace)) as service, grpc.insecure_channel(service.target) as channel:
        yield UserServiceStub(channel)


def findable(email: str) -> RegisterRequest:
    """Return a registration whose names contain the local part of the address, so that they can be searched for."""
    planted = email.partition("@")[0]
    return registration(email, first_name=f"First {planted}", last_name=f"Last {planted}")


def log_in(stub: UserServiceStub, email: str) -> Metadata:
    return bearer(stub.Login(LoginRequest(email=email, password=PASSWORD)).token)


def attempt(call: Callable[[], object]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        return read_failure(error).code
    return Code.OK


def killed_at(
    server: fake_data_api.FakeDataApi,
    folder: Path,
    call: Callable[[UserServiceStub], object],
    write: int,
    after_write: bool,
) -> grpc.StatusCode:
    """Make the call to a process and kill it before or after one of its writes. Return the call's outcome."""
    stop = Stop()
    with (
        Door(server) as door,  # closed instead of cleared: otherwise a held request would go on to write
        running(folder, **astra(keyspace_at(door.url))) as service,
        grpc.insecure_channel(service.target) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        door.fail(stop, where=is_write, skip=write, times=1, after_write=after_write)
        outcome = pool.submit(attempt, lambda: call(UserServiceStub(channel)))
        assert stop.reached.wait(PATIENCE)
        service.process.kill()
        return outcome.result(PATIENCE)


def is_write(request: fake_data_api.Request) -> bool:
    return request.command in {"insertOne", "updateOne", "deleteOne"}


def sweep(keyspace: Keyspace) -> None:
    """Run a sweep, as every process does about once a minute."""

    async def work() -> None:
        store = AstraStore(DataApi(keyspace))
        await store.sweep()
        await store.close()

    asyncio.run(work())


def repair(keyspace: Keyspace, folder: Path) -> str:
    """Run the repair command, and return the last line that it prints."""
    done = run(folder, "schema", "check", "--repair", **astra(keyspace))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def actions(server: fake_data_api.FakeDataApi, table: str, user_id: str) -> list[str]:
    return sorted(row["action"] for row in server.rows(KEYSPACE, table) if row.get("account") == user_id)


@pytest.mark.parametrize(
    ("write", "after_write"), [(0, True), (1, True), (4, False)], ids=lambda value: str(value).lower()
)
def test_registering(
    server: fake_data_api.FakeDataApi,
    keyspace: Keyspace,
    survivor: UserServiceStub,
    tmp_path: Path,
    write: int,
    after_write: bool,
) -> None:
    email, claim = an_address(), REGISTRATION.index("claim")
    request, login = findable(email), LoginRequest(email=email, password=PASSWORD)
    answer = killed_at(server, tmp_path, lambda stub: stub.Register(request), write, after_write)
    # The registration takes effect with the claim. Without it there is no account, and the address is free.
    is_registered = (write, after_write) >= (claim, True)
    assert is_registered or answer is Code.UNAVAILABLE
    assert attempt(lambda: survivor.Login(login)) is (Code.OK if is_registered else Code.UNAUTHENTICATED)
    again = attempt(lambda: survivor.Register(request))
    assert again is (Code.ALREADY_EXISTS if is_registered else Code.OK)
    me = survivor.GetMe(GetMeRequest(), metadata=log_in(survivor, email))
    assert (me.email, list(me.roles), me.account_status) == (email, ["viewer"], "active")
    sweep(keyspace)
    row = server.row(KEYSPACE, USERS, me.user_id)
    assert row
    assert row["email"] == email
    for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY):
        assert actions(server, table, me.user_id) == ["registered"]


def test_what_a_registration_left_is_removed_once_it_is_an_hour_old(tmp_path: Path) -> None:
    email = an_address()
    with prepared_fake() as (server, keyspace):  # a new one: a sweep of the survivor could be faster than repair

        def left() -> list[str]:
            return [found["_id"] for found in server.documents(KEYSPACE, ACCOUNTS) if found.get("email") == email]

        killed_at(server, tmp_path, lambda stub: stub.Register(findable(email)), 0, after_write=True)
        repair(keyspace, tmp_path)
        (orphan,) = left()
        an_hour_ago = {"$date": int((now() - timedelta(minutes=61)).timestamp() * 1000)}
        update = {"filter": {"_id": orphan}, "update": {"$set": {"written": an_hour_ago}}}
        server.execute([KEYSPACE, ACCOUNTS], {"updateOne": update})
        assert repair(keyspace, tmp_path).endswith("Deleted unclaimed accounts: 1. Freed addresses: 0.")
        assert left() == []


# After the writes of the account, and of the claim.
@pytest.mark.parametrize(("write", "by_command"), [(0, True), (2, False)], ids=["repaired", "swept"])
def test_deleting(
    server: fake_data_api.FakeDataApi,
    keyspace: Keyspace,
    survivor: UserServiceStub,
    tmp_path: Path,
    write: int,
    by_command: bool,
) -> None:
    email, request = an_address(), DeleteMeRequest(password=PASSWORD)
    user_id = survivor.Register(findable(email)).user_id
    metadata = log_in(survivor, email)
    eventually(lambda: not is_pending(server, user_id))
    killed_at(server, tmp_path, lambda stub: stub.DeleteMe(request, metadata=metadata), write, after_write=True)
    assert attempt(lambda: survivor.GetMe(GetMeRequest(), metadata=metadata)) is Code.NOT_FOUND
    if by_command:
        repair(keyspace, tmp_path)
    else:
        sweep(keyspace)
    assert email.partition("@")[0] not in everything(server)
    for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY):
        assert actions(server, table, user_id) == ["deleted", "registered"]
    heir = survivor.Register(findable(email))
    assert heir.user_id != user_id
    assert survivor.GetMe(GetMeRequest(), metadata=log_in(survivor, email)).user_id == heir.user_id


def is_pending(server: fake_data_api.FakeDataApi, user_id: str) -> bool:
    document = server.document(KEYSPACE, ACCOUNTS, f"account:{user_id}")
    return document is not None and "pending" in document


def everything(server: fake_data_api.FakeDataApi) -> str:
    tables = [server.rows(KEYSPACE, table) for table in (USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY)]
    return repr([server.documents(KEYSPACE, ACCOUNTS), *tables])
