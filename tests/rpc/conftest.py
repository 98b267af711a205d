"""pytest-grpc's fixtures: a real server on a real port, with the interceptors that the service runs with."""

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import jwt
import pytest
from grpc import aio
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.rpc.interceptors.chain import InterceptorChain
from killrvideo_grpc.rpc.interceptors.receive import ReceiveInterceptor
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.server.bootstrap import ServerParts, build_parts
from killrvideo_grpc.server.grpc_server import RECEIVE_TIMEOUT, build_interceptors
from killrvideo_grpc.service.moderation import Operators
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import bearer, registration
from tests.support.hashing import CountingHasher
from tests.support.loops import LoopThread, loop_thread
from tests.support.ports import free_port
from tests.support.servers import AioServer
from tests.support.settings import settings_in
from tests.support.stores import FlakyStore

Stub = user_service_pb2_grpc.UserServiceStub


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_in(tmp_path_factory.mktemp("rpc"))


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    """The event loop that the server, the store and the use cases run on."""
    with loop_thread() as loop:
        yield loop


@pytest.fixture(scope="module")
def hasher(settings: Settings) -> CountingHasher:
    return CountingHasher(settings.bcrypt_rounds)


@pytest.fixture(scope="module")
def store(settings: Settings, loop: LoopThread) -> Iterator[FlakyStore]:
    async def make() -> FlakyStore:
        return FlakyStore(settings.sqlite_path)  # created here, because SQLite connections belong to a thread

    store = loop.run(make())
    yield store
    loop.run(store.close())


@pytest.fixture(scope="module")
def parts(settings: Settings, store: FlakyStore, hasher: CountingHasher) -> ServerParts:
    return build_parts(settings, store, hasher)


@pytest.fixture(scope="module")
def operators(store: FlakyStore) -> Operators:
    return Operators(store, "cli:tester")


@pytest.fixture(scope="module")
def grpc_interceptors(parts: ServerParts, settings: Settings, loop: LoopThread) -> Iterator[InterceptorChain]:
    receive = ReceiveInterceptor(RECEIVE_TIMEOUT)
    yield build_interceptors(parts.authenticator, receive, settings.max_concurrent_rpcs)
    loop.run(receive.end_waits())


@pytest.fixture(scope="module")
def _grpc_server(loop: LoopThread, grpc_interceptors: InterceptorChain) -> AioServer:
    """Replace pytest-grpc's fixture of this name, which creates a server with a thread pool."""

    async def make() -> Any:
        return aio.server(interceptors=[grpc_interceptors])

    return AioServer(loop, loop.run(make()))


@pytest.fixture(scope="module")
def grpc_addr() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def grpc_servicer(parts: ServerParts) -> UserServicer:
    return parts.servicer


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    return user_service_pb2_grpc.add_UserServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[Stub]:
    return Stub


class Account:
    """A registered account with a session, and methods to change it."""

    def __init__(self, stub: Stub, database: Path, password: str = PASSWORD) -> None:
        self.email = an_address()
        self.password = password
        self.stub = stub
        self.database = database
        self.user_id = stub.Register(registration(self.email, password=password)).user_id
        self.login = self.log_in()
        self.metadata = bearer(self.login.token)
        self.session_id = session_of(self.login.token)
        self.service_tokens = dict[Grant, str]()  # of services that call in its place

    @cached_property
    def other(self) -> "Account":
        """Another account of the same service, registered when it is first accessed."""
        return Account(self.stub, self.database)

    def log_in(self) -> user_service_pb2.LoginResponse:
        """Open one more session."""
        return self.stub.Login(user_service_pb2.LoginRequest(email=self.email, password=self.password))

    def change(self, column: str, value: str) -> None:
        """Change a column of its row, as another program with access to the database could."""
        self.execute(f"UPDATE accounts SET {column} = ? WHERE userid = ?", value, self.user_id)

    def reset_code(self) -> str:
        """Return a new reset code, which works for moderators too."""
        code = f"{self.user_id}.{secrets.token_urlsafe(32)}"
        digest, expires_at = hashlib.sha256(code.encode()).hexdigest(), int(time.time() + 3600) * 1000
        self.change("reset_code", json.dumps({"digest": digest, "expires_at": expires_at, "by_operator": True}))
        return code

    def delete(self) -> None:
        """Delete its row."""
        self.execute("DELETE FROM accounts WHERE userid = ?", self.user_id)

    def execute(self, statement: str, *values: str) -> list[Any]:
        """Run a statement on the database and return its rows."""
        connection = sqlite3.connect(self.database)
        with connection:
            rows = connection.execute(statement, values).fetchall()
        connection.close()
        return rows


def session_of(token: str) -> str:
    """Return the id of an access token's session."""
    session_id: str = jwt.decode(token, options={"verify_signature": False})["sid"]
    return session_id


@pytest.fixture
def account(grpc_stub: Stub, settings: Settings) -> Account:
    return Account(grpc_stub, settings.sqlite_path)
