"""pytest-grpc's fixtures: a real server on a real port, with the interceptors that the service runs with."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.config import Settings
from killrvideo_grpc.rpc.arrivals import Arrivals
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.server import ARRIVAL_SECONDS, build_interceptors, build_service
from killrvideo_grpc.service import Operations, UserService
from tests.support.accounts import PASSWORD, an_address
from tests.support.hashing import CountingHasher
from tests.support.ports import free_port
from tests.support.settings import settings_in
from tests.support.stores import FlakyStore

Stub = user_service_pb2_grpc.UserServiceStub
Metadata = tuple[tuple[str, str | bytes], ...]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_in(tmp_path_factory.mktemp("rpc"))


@pytest.fixture(scope="module")
def hasher(settings: Settings) -> CountingHasher:
    return CountingHasher(settings.bcrypt_rounds)


@pytest.fixture(scope="module")
def store(settings: Settings) -> Iterator[FlakyStore]:
    store = FlakyStore(settings.sqlite_path)
    yield store
    store.close()


@pytest.fixture(scope="module")
def service(settings: Settings, store: FlakyStore, hasher: CountingHasher) -> UserService:
    return build_service(settings, store, hasher)


@pytest.fixture(scope="module")
def operations(store: FlakyStore) -> Operations:
    return Operations(store)


@pytest.fixture(scope="module")
def grpc_interceptors(service: UserService) -> list[grpc.ServerInterceptor]:
    return build_interceptors(service, Arrivals(ARRIVAL_SECONDS))


@pytest.fixture(scope="module")
def grpc_addr() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def grpc_servicer(service: UserService) -> UserServicer:
    return UserServicer(service)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    return user_service_pb2_grpc.add_UserServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[Stub]:
    return Stub


class Account:
    """A registered account, and what tests do to it."""

    def __init__(self, stub: Stub, database: Path) -> None:
        self.email = an_address()
        self._database = database
        request = user_service_pb2.RegisterRequest(
            email=self.email, password=PASSWORD, first_name="Ann", last_name="Lee"
        )
        self.user_id = stub.Register(request).user_id
        self.login = stub.Login(user_service_pb2.LoginRequest(email=self.email, password=PASSWORD))
        self.metadata = bearer(self.login.token)

    def change(self, column: str, value: str) -> None:
        """Changes a column of its row, as another program on the database would."""
        self.execute(f"UPDATE users SET {column} = ? WHERE userid = ?", value, self.user_id)

    def delete(self) -> None:
        """Deletes its row."""
        self.execute("DELETE FROM users WHERE userid = ?", self.user_id)

    def execute(self, statement: str, *values: str) -> None:
        """Runs a statement on the database."""
        connection = sqlite3.connect(self._database)
        with connection:
            connection.execute(statement, values)
        connection.close()


def bearer(token: str) -> Metadata:
    """Returns the metadata that carries a token."""
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def account(grpc_stub: Stub, settings: Settings) -> Account:
    return Account(grpc_stub, settings.sqlite_path)
