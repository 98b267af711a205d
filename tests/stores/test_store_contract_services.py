"""The services in a store: read whole, changed atomically."""

import asyncio
import hashlib

import pytest

from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.domain.services import (
    Grant,
    Service,
    ServiceChangeRejected,
    ServicesChange,
    add_service,
    drop_old_token,
    remove_service,
    rotate_service,
)
from killrvideo_grpc.security.service_tokens import new_service_token
from tests.stores.harness import Harness
from tests.support.services import a_name, stored

pytestmark = pytest.mark.anyio


async def outcome(store: AccountStore, change: ServicesChange) -> str:
    """Apply a change. Return the beginning of the rejection, or an empty text."""
    try:
        await store.change_services(change)
    except ServiceChangeRejected as error:
        return str(error).partition(".")[0]
    return ""


async def test_a_service_through_its_life(store: AccountStore, harness: Harness) -> None:
    name, other = a_name(), harness.open()
    first, second, third = (stored(new_service_token(name)) for _ in range(3))

    async def tokens() -> tuple[object, ...]:
        return (await other.read_services())[name].tokens

    await store.change_services(add_service(name, [Grant.READ_PROFILES, Grant.CHECK_TOKENS], first))
    grants = frozenset({Grant.READ_PROFILES, Grant.CHECK_TOKENS})
    assert (await other.read_services())[name] == Service(name, grants, (first,))
    assert await outcome(store, add_service(name, [], second)) == f"There is a service {name} already"
    await store.change_services(drop_old_token(name))
    assert await tokens() == (first,)
    await store.change_services(rotate_service(name, second))
    assert await tokens() == (first, second)
    assert await outcome(store, rotate_service(name, third)) == f"{name} has two tokens already"
    await store.change_services(drop_old_token(name))
    assert await tokens() == (second,)
    await store.change_services(remove_service(name))
    assert name not in await other.read_services()
    for change in (remove_service(name), drop_old_token(name), rotate_service(name, third)):
        assert await outcome(store, change) == f"There is no service {name}"
    await other.close()


async def test_services_added_at_once_are_all_there(stores: list[AccountStore]) -> None:
    names = [a_name() for _ in range(6)]
    changes = [add_service(name, [Grant.CHECK_TOKENS], stored(new_service_token(name))) for name in names]
    await asyncio.gather(*(stores[n % 4].change_services(change) for n, change in enumerate(changes)))
    assert set(names) <= (await stores[0].read_services()).keys()


async def test_of_two_services_with_one_name_one_is_added(stores: list[AccountStore]) -> None:
    name = a_name()
    tokens = [stored(new_service_token(name)) for _ in stores]
    changes = [add_service(name, [], token) for token in tokens]
    outcomes = await asyncio.gather(*(outcome(*each) for each in zip(stores, changes, strict=True)))
    (token,) = (await stores[0].read_services())[name].tokens
    assert outcomes == ["" if each == token else f"There is a service {name} already" for each in tokens]


async def test_grants_of_a_newer_version_are_kept(store: AccountStore) -> None:
    name, token = a_name(), stored(new_service_token("x"))
    await store.change_services(lambda services: {**services, name: Service(name, frozenset({"new"}), (token,))})
    await store.change_services(rotate_service(name, stored(new_service_token("x"))))
    assert (await store.read_services())[name].grants == {"new"}


async def test_the_store_holds_only_digests(store: AccountStore, harness: Harness) -> None:
    name = a_name()
    token = new_service_token(name)
    await store.change_services(add_service(name, [], stored(token)))
    text = harness.raw_text()
    assert hashlib.sha256(token.encode()).hexdigest() in text
    assert token not in text
    assert token.rpartition("_")[2] not in text


@pytest.mark.parametrize("repeat", [1, 2])
async def test_a_change_applied_to_its_own_result_changes_nothing(store: AccountStore, repeat: int) -> None:
    """As after a lost answer."""
    name = a_name()
    first, second = stored(new_service_token(name)), stored(new_service_token(name))
    for change in (add_service(name, [], first), rotate_service(name, second), drop_old_token(name)):
        for _ in range(repeat):
            await store.change_services(change)
    assert (await store.read_services())[name].tokens == (second,)
    removal = remove_service(name)
    for _ in range(repeat):
        await store.change_services(removal)
    assert name not in await store.read_services()
