"""Calls to the service on behalf of accounts."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, LoginResponse
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.stores.data_api.client import ACCOUNTS, Keyspace
from tests.stores.harness import DataApiHarness
from tests.support import calls
from tests.support.accounts import PASSWORD
from tests.support.errors import read_failure
from tests.support.process import astra, running

Json = dict[str, Any]


@contextmanager
def processes(
    folder: Path, keyspace: Keyspace | None, count: int = 1, **changes: str
) -> Iterator[list[UserServiceStub]]:
    """Start several processes of the service on one keyspace or, without one, on one SQLite file in the folder."""
    settings = (astra(keyspace) if keyspace else {}) | changes
    with ExitStack() as stack:
        services = [stack.enter_context(running(folder, **settings)) for _ in range(count)]
        channels = [stack.enter_context(grpc.insecure_channel(service.target)) for service in services]
        yield [UserServiceStub(channel) for channel in channels]


def log_in(stub: UserServiceStub, email: str, password: str = PASSWORD) -> LoginResponse:
    return stub.Login(LoginRequest(email=email, password=password))


def bearer(login: LoginResponse) -> calls.Metadata:
    return calls.bearer(login.token)


def outcome(call: Callable[[], object]) -> str:
    """Make a call and return the reason of its failure, or "OK"."""
    try:
        call()
    except grpc.RpcError as error:
        failure = read_failure(error)
        return failure.reason or failure.code.name
    return "OK"


def access(stub: UserServiceStub, login: LoginResponse) -> str:
    """Return "OK" if the access token of a login works, or else the reason of the error."""
    return outcome(lambda: stub.GetMe(GetMeRequest(), metadata=bearer(login)))


def contents(keyspace: Keyspace) -> dict[str, list[Json]]:
    """Return all documents and rows of the keyspace, by collection and table."""
    found: dict[str, list[Json]] = json.loads(DataApiHarness(keyspace).raw_text())
    return found


def accounts_with(keyspace: Keyspace, email: str) -> list[Json]:
    """Return the documents of the accounts with this address, exactly as it was typed."""
    return [document for document in contents(keyspace)[ACCOUNTS] if document.get("email") == email]


def change_document(keyspace: Keyspace, user_id: str, update: dict[str, Json]) -> None:
    """Change the document of an account, as another program on the keyspace would."""

    async def work() -> None:
        async with keyspace.open() as database, database.get_collection(ACCOUNTS) as accounts:
            changed = await accounts.update_one({"_id": f"account:{user_id}"}, update)
            assert changed.update_info["n"] == 1

    asyncio.run(work())


def insert_document(keyspace: Keyspace, document: Json) -> None:
    """Insert a document, as another program on the keyspace would."""

    async def work() -> None:
        async with keyspace.open() as database, database.get_collection(ACCOUNTS) as accounts:
            await accounts.insert_one(document)

    asyncio.run(work())
