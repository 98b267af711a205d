"""Stores on a fake Data API, its faults and its contents. Each test begins with an empty one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.changes import AssignRole
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import DataApi, Keyspace
from tests.stores.astra.contents import Contents
from tests.support import fake_data_api
from tests.support.accounts import a_cause, registered
from tests.support.keyspaces import prepared_fake

OpenStore = Callable[[], AstraStore]
Prepared = tuple[fake_data_api.FakeDataApi, Keyspace]
T = TypeVar("T")


@pytest.fixture(scope="module")
def prepared() -> Iterator[Prepared]:
    with prepared_fake() as prepared:
        yield prepared


@pytest.fixture
def server(prepared: Prepared) -> Iterator[fake_data_api.FakeDataApi]:
    server, _ = prepared
    server.forget_requests()
    yield server
    server.clear_faults()
    server.empty()


@pytest.fixture
def contents(server: fake_data_api.FakeDataApi) -> Contents:
    return Contents(server)


def opened(prepared: Prepared) -> AstraStore:
    # Tests must not run out of time on a busy machine.
    return AstraStore(DataApi(replace(prepared[1], max_wait=30.0)))


@pytest.fixture
async def open_store(prepared: Prepared, server: fake_data_api.FakeDataApi) -> AsyncIterator[OpenStore]:
    """Open stores, each as another process would, and close them at the end."""
    stores: list[AstraStore] = []

    def open_store() -> AstraStore:
        stores.append(opened(prepared))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture
def store(open_store: OpenStore) -> AstraStore:
    return open_store()


def written(prepared: Prepared, write: Callable[[AstraStore], Awaitable[T]]) -> tuple[T, fake_data_api.Snapshot]:
    """Let a store write to the empty fake and finish its work. Return what `write` did and what was written."""

    async def run() -> T:
        store = opened(prepared)
        result = await write(store)
        await store.finish()
        await store.close()
        return result

    server, _ = prepared
    result = asyncio.run(run())
    snapshot = server.snapshot()
    server.empty()
    return result, snapshot


def promoted(prepared: Prepared, count: int) -> tuple[list[Account], fake_data_api.Snapshot]:
    """Return so many moderators, and what their registrations and promotions wrote."""

    async def write(store: AstraStore) -> list[Account]:
        accounts = [await registered(store) for _ in range(count)]
        for account in accounts:
            await store.apply(account.user_id, AssignRole(Role.MODERATOR), a_cause(account))
        return accounts

    return written(prepared, write)


@pytest.fixture(scope="module")
def account_and_snapshot(prepared: Prepared) -> tuple[Account, fake_data_api.Snapshot]:
    """An account, and what its registration wrote."""
    return written(prepared, registered)


@pytest.fixture
def account(server: fake_data_api.FakeDataApi, account_and_snapshot: tuple[Account, fake_data_api.Snapshot]) -> Account:
    """A registered account, with all background work done."""
    account, snapshot = account_and_snapshot
    server.restore(snapshot)
    return account


def sent(server: fake_data_api.FakeDataApi) -> list[tuple[str | None, str]]:
    """Return the collection or table and the command of each recorded request."""
    return [(request.name, request.command) for request in server.requests]
