"""Stores of every kind, and their accounts."""

from collections.abc import AsyncIterator, Iterator

import pytest

from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.changes import RevokeRole
from killrvideo_grpc.domain.ports import AccountStore
from tests.stores.harness import STORES, Harness
from tests.support.accounts import HASH, a_cause, an_account, imported


@pytest.fixture(scope="session", params=list(STORES))
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    # Shared, because a real Data API takes seconds to create a keyspace. Each test uses its own accounts.
    with STORES[request.param](tmp_path_factory.mktemp("store")) as harness:
        yield harness


@pytest.fixture
async def store(harness: Harness) -> AsyncIterator[AccountStore]:
    store = harness.open()
    yield store
    await store.close()


@pytest.fixture
async def stores(harness: Harness) -> AsyncIterator[list[AccountStore]]:
    """Four stores on the database, as four processes would have them."""
    stores = [harness.open() for _ in range(4)]
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
async def account(store: AccountStore) -> Account:
    """A registered account with the password hash HASH."""
    account = an_account()
    await store.register(account, HASH, a_cause(account))
    return account


@pytest.fixture
async def moderators(store: AccountStore) -> AsyncIterator[list[Account]]:
    """Three accounts, the only active moderators in the database. All are demoted afterwards."""
    moderators = [an_account(roles=frozenset({Role.VIEWER, Role.MODERATOR})) for _ in range(3)]
    await imported(store, moderators)
    yield moderators
    for moderator in (await store.get_many([each.user_id for each in moderators])).values():
        if moderator.is_active_moderator:
            await store.apply(moderator.user_id, RevokeRole(Role.MODERATOR), a_cause(moderator), force=True)
