"""Laws 1 to 3 of the account document (docs/accounts.md), each tested where it can break. Crashes: test_crashes.py."""

from datetime import timedelta
from typing import Any

import pytest

from killrvideo_grpc.domain.account import Account, Credentials, now
from killrvideo_grpc.domain.changes import (
    Action,
)
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered
from killrvideo_grpc.stores.astra.claims import claim_id, owner_of
from killrvideo_grpc.stores.astra.document import document_id, new_document
from killrvideo_grpc.stores.astra.repair import Repaired, Repairs
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNTS
from tests.stores.astra.conftest import sent
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import LOST
from tests.support.accounts import HASH, an_account, an_event
from tests.support.fake_data_api import Close, FakeDataApi

pytestmark = pytest.mark.anyio


# 1. The account is written before the claim.


async def test_registering_writes_the_account_and_then_the_claim(
    server: FakeDataApi, store: AstraStore, contents: Contents
) -> None:
    account = an_account("Law.One@Example.org")
    await store.register(account, HASH, an_event(account))
    assert sent(server)[:3] == [(ACCOUNTS, "findOne"), (ACCOUNTS, "insertOne"), (ACCOUNTS, "insertOne")]
    written = [request.arguments["document"]["_id"] for request in server.requests[1:3]]
    assert written == [document_id(account.user_id), claim_id("law.one@example.org")]
    assert contents.log(account.email) == [f"claim:{account.user_id}"]


async def test_registering_an_owned_address_costs_one_request(
    server: FakeDataApi, store: AstraStore, account: Account
) -> None:
    other = an_account(account.email)
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(other, HASH, an_event(other))
    assert sent(server) == [(ACCOUNTS, "findOne")]


async def test_an_unclaimed_account_is_not_found_and_is_deleted_after_an_hour(
    store: AstraStore, contents: Contents
) -> None:
    orphan = an_account()
    await store._api.insert_document(new_document(orphan, HASH, an_event(orphan)))
    assert await store.find_credentials(orphan.email) is None
    assert await store.sweep() == 0
    assert contents.row(orphan) is None
    repairs = Repairs(store._api)
    assert await repairs.repair(now() + timedelta(minutes=59)) == Repaired()
    assert contents.document(orphan)
    assert await repairs.repair(now() + timedelta(minutes=61)) == Repaired(orphans=1)
    assert contents.document(orphan) is None


# 2. A lost answer is resolved by reading.


@pytest.mark.parametrize("fault", LOST, ids=repr)
@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(4))
async def test_no_lost_answer_loses_a_registration(
    server: FakeDataApi, store: AstraStore, contents: Contents, fault: Any, after_write: bool, step: int
) -> None:
    account = an_account()
    server.fail(fault, after_write=after_write, skip=step, times=1)
    await store.register(account, HASH, an_event(account))
    assert await store.find_credentials(account.email) == Credentials(account, HASH)
    assert contents.log(account.email) == [f"claim:{account.user_id}"]


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
async def test_no_lost_answer_loses_a_registration_of_a_released_address(
    server: FakeDataApi, store: AstraStore, account: Account, after_write: bool
) -> None:
    await store.delete(account, an_event(account, Action.DELETED))
    await store._background.finish()
    heir = an_account(account.email)
    server.fail(Close(), command="findOneAndUpdate", after_write=after_write, times=1)
    await store.register(heir, HASH, an_event(heir))
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


# 3. The owner of an address is the first claim after the last effective release.


@pytest.mark.parametrize(
    ("log", "owner"),
    [
        ("", None),
        ("claim:a", "a"),
        ("claim:a claim:b", "a"),
        ("claim:a claim:b release:a", None),
        ("claim:a release:b", "a"),
        ("claim:a claim:b release:b release:a claim:b claim:c", "b"),
        ("claim:a release:a release:a claim:b release:a", "b"),
    ],
)
def test_the_log_names_the_owner(log: str, owner: str | None) -> None:
    assert owner_of(log.split()) == owner


async def test_the_log_keeps_old_claims_and_ignores_repeated_releases(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.delete(account, an_event(account, Action.DELETED))
    heir = an_account(account.email)
    await store.register(heir, HASH, an_event(heir))
    await store._background.finish()
    old, new = account.user_id, heir.user_id
    assert contents.log(account.email) == [f"claim:{old}", f"release:{old}", f"claim:{new}"]
    # A sweep may release an address again after another account has claimed it.
    await store._claims.release(claim_id(account.email), old)
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


async def test_the_repair_frees_the_address_of_a_removed_account(store: AstraStore, account: Account) -> None:
    heir = an_account(account.email)
    await store._api.delete_document(document_id(account.user_id))
    assert await store.find_credentials(account.email) is None
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(heir, HASH, an_event(heir))
    assert await Repairs(store._api).repair() == Repaired(claims=1)
    await store.register(heir, HASH, an_event(heir))
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)
