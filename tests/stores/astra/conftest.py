"""Stores on a fake Data API, its faults and its contents."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import DataApi, Keyspace
from tests.stores.astra.contents import Contents
from tests.support import fake_data_api
from tests.support.accounts import HASH, a_cause, an_account
from tests.support.keyspaces import prepared_fake

OpenStore = Callable[[], AstraStore]


@pytest.fixture(scope="module")
def prepared() -> Iterator[tuple[fake_data_api.FakeDataApi, Keyspace]]:
    with prepared_fake() as prepared:
        yield prepared


@pytest.fixture
def server(prepared: tuple[fake_data_api.FakeDataApi, Keyspace]) -> Iterator[fake_data_api.FakeDataApi]:
    server, _ = prepared
    server.forget_requests()
    yield server
    server.clear_faults()


@pytest.fixture
def contents(server: fake_data_api.FakeDataApi) -> Contents:
    return Contents(server)


@pytest.fixture
async def open_store(prepared: tuple[fake_data_api.FakeDataApi, Keyspace]) -> AsyncIterator[OpenStore]:
    """Open stores, each as another process would, and close them at the end."""
    stores: list[AstraStore] = []

    def open_store() -> AstraStore:
        # Tests must not run out of time on a busy machine.
        stores.append(AstraStore(DataApi(replace(prepared[1], max_wait=30.0))))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture
def store(open_store: OpenStore) -> AstraStore:
    return open_store()


@pytest.fixture
async def account(store: AstraStore, server: fake_data_api.FakeDataApi) -> Account:
    """A registered account, with all background work done."""
    account = an_account()
    await store.register(account, HASH, a_cause(account))
    await store.finish()
    server.forget_requests()
    return account


def sent(server: fake_data_api.FakeDataApi) -> list[tuple[str | None, str]]:
    """Return the collection or table and the command of each recorded request."""
    return [(request.name, request.command) for request in server.requests]
