"""The document of the services: lost answers, and what sweeps make of it."""

import asyncio

import pytest

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.services import (
    Grant,
    Services,
    add_service,
    drop_old_token,
    remove_service,
    rotate_service,
)
from killrvideo_grpc.security.service_tokens import new_service_token
from killrvideo_grpc.service.service_authentication import MAX_AGE
from killrvideo_grpc.stores.astra import services
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import DataApi, Keyspace
from tests.stores.astra.crashes import LOST
from tests.support.fake_data_api import Close, ErrorAnswer, FakeDataApi, Hang, faults
from tests.support.keyspaces import prepared_fake
from tests.support.services import a_name, added, stored

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("after_write", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("fault", [*LOST, ErrorAnswer("FAILED_CONCURRENT_OPERATIONS")], ids=repr)
async def test_every_change_survives_a_lost_answer(
    store: AstraStore, server: FakeDataApi, fault: faults.Kind, after_write: bool
) -> None:
    name = a_name()
    first, second = stored(new_service_token(name)), stored(new_service_token(name))
    changes = [
        (add_service(name, [Grant.CHECK_TOKENS], first), [first]),
        (rotate_service(name, second), [first, second]),
        (drop_old_token(name), [second]),
        (remove_service(name), None),
    ]
    for change, tokens in changes:
        with server.fail(fault, command="updateOne", after_write=after_write, times=1):
            await store.change_services(change)
        service = (await store.read_services()).get(name)
        assert (list(service.tokens) if service else None) == tokens


def test_the_first_service_survives_a_lost_answer() -> None:
    async def add(keyspace: Keyspace) -> Services:
        store = AstraStore(DataApi(keyspace))
        await store.change_services(add_service("first", [], token))
        found = await store.read_services()
        await store.close()
        return found

    token = stored(new_service_token("first"))
    with prepared_fake() as (server, keyspace), server.fail(Close(), command="insertOne", after_write=True, times=1):
        assert asyncio.run(add(keyspace))["first"].tokens == (token,)


async def test_sweeps_leave_the_services_alone(store: AstraStore) -> None:
    await added(store, Grant.CHECK_TOKENS)
    before = await store.read_services()
    repaired = await store.repair()
    await store.sweep()
    assert repaired.failed == 0
    assert await store.read_services() == before


async def test_a_read_takes_no_longer_than_the_copy_of_the_services_allows(
    store: AstraStore, server: FakeDataApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's own limit may be a minute. A removed service is refused within 10 seconds."""
    assert services.READ_SECONDS + MAX_AGE <= 10
    monkeypatch.setattr(services, "READ_SECONDS", 0.1)
    with server.fail(Hang(), command="findOne"), pytest.raises(StoreUnavailable):
        async with asyncio.timeout(10):
            await store.read_services()
