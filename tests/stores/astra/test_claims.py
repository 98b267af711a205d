"""Claims on e-mail addresses: who owns one, after lost and late answers, deletions and crashes."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from killrvideo_grpc.domain.account import Account, Credentials, now
from killrvideo_grpc.domain.changes import Delete
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, StoreUnavailable
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.astra.sweep import UNCLAIMED_AGE
from killrvideo_grpc.stores.data_api.client import ACCOUNTS
from tests.stores.astra.conftest import OpenStore, sent
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import LOST
from tests.support.accounts import HASH, a_cause, an_account, an_address
from tests.support.fake_data_api import Close, FakeDataApi, Late, Request
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio


def is_claim(request: Request) -> bool:
    """Whether the request writes a claim."""
    arguments = request.arguments
    return "owner" in (arguments.get("document") or arguments.get("update", {}).get("$set", {}))


async def deleted(store: AstraStore, account: Account) -> None:
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    await store.finish()


async def test_registering_writes_the_account_and_then_the_claim(
    server: FakeDataApi, store: AstraStore, contents: Contents
) -> None:
    account = an_account("Claim.One@Example.org")
    await store.register(account, HASH, a_cause(account))
    assert sent(server)[:3] == [(ACCOUNTS, "findOne"), (ACCOUNTS, "insertOne"), (ACCOUNTS, "insertOne")]
    written = [request.arguments["document"]["_id"] for request in server.requests[1:3]]
    assert written == [document_id(account.user_id), claim_id("claim.one@example.org")]
    assert contents.owner(account.email) == str(account.user_id)


async def test_registering_an_owned_address_writes_nothing(
    server: FakeDataApi, store: AstraStore, account: Account
) -> None:
    other = an_account(account.email)
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(other, HASH, a_cause(other))
    await store.finish()
    assert sent(server) == [(ACCOUNTS, "findOne")] * 2


async def test_of_32_registrations_in_two_processes_two_write(
    server: FakeDataApi, open_store: OpenStore, contents: Contents
) -> None:
    stores, address = [open_store(), open_store()], an_address()
    accounts = [an_account(address) for _ in range(32)]
    outcomes = await asyncio.gather(
        *(stores[n % 2].register(each, HASH, a_cause(each)) for n, each in enumerate(accounts)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [*["EmailAlreadyRegistered"] * 31, "NoneType"]
    inserted = [r for r in server.requests if r.command == "insertOne" and "email" in r.arguments["document"]]
    assert len([request for request in inserted if request.name == ACCOUNTS]) <= 2


async def test_a_claim_is_one_document_of_one_size_however_often_it_changes_hands(
    server: FakeDataApi, store: AstraStore
) -> None:
    address = an_address()
    for _ in range(5):
        account = an_account(address)
        await store.register(account, HASH, a_cause(account))
        await deleted(store, account)
    claim = server.document(KEYSPACE, ACCOUNTS, claim_id(address))
    assert claim
    assert claim.keys() == {"_id", "revision", "owner"}
    assert claim["owner"] is None


# Lost answers


@pytest.mark.parametrize(("step", "fault"), [(0, LOST[0]), (1, LOST[0]), *((2, fault) for fault in LOST)], ids=repr)
@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
async def test_no_lost_answer_loses_a_registration(
    server: FakeDataApi, store: AstraStore, contents: Contents, fault: Any, after_write: bool, step: int
) -> None:
    account = an_account()
    server.fail(fault, after_write=after_write, skip=step, times=1)
    await store.register(account, HASH, a_cause(account))
    assert await store.find_credentials(account.email) == Credentials(account, HASH)
    assert contents.owner(account.email) == str(account.user_id)


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
async def test_no_lost_answer_loses_a_registration_of_a_freed_address(
    server: FakeDataApi, store: AstraStore, account: Account, after_write: bool
) -> None:
    await deleted(store, account)
    heir = an_account(account.email)
    server.fail(Close(), where=is_claim, after_write=after_write, times=1)
    await store.register(heir, HASH, a_cause(heir))
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


# Late answers


async def test_a_late_claim_of_a_loser_takes_nothing_over(
    server: FakeDataApi, open_store: OpenStore, contents: Contents
) -> None:
    store, other = open_store(), open_store()
    loser, winner = an_account(), an_account()
    winner = an_account(loser.email)
    late = server.fail(Late(), where=is_claim, times=2)
    with pytest.raises(StoreUnavailable):
        await store.register(loser, HASH, a_cause(loser))
    await other.register(winner, HASH, a_cause(winner))
    late.carry_out(server.execute)
    assert await other.find_credentials(winner.email) == Credentials(winner, HASH)
    await other.sweep(now() + 2 * UNCLAIMED_AGE)
    assert contents.document(loser) is None
    assert contents.existing(winner)


async def test_a_late_claim_can_complete_a_registration(
    server: FakeDataApi, store: AstraStore, contents: Contents
) -> None:
    account = an_account()
    late = server.fail(Late(), where=is_claim, times=2)
    with pytest.raises(StoreUnavailable):
        await store.register(account, HASH, a_cause(account))
    late.carry_out(server.execute)
    assert await store.find_credentials(account.email) == Credentials(account, HASH)
    await store.sweep()
    assert contents.row(account)
    await store.sweep(now() + 2 * UNCLAIMED_AGE)
    assert await store.find_credentials(account.email) == Credentials(account, HASH)


async def test_a_claim_later_than_the_removal_of_its_account_does_nothing(
    server: FakeDataApi, store: AstraStore, contents: Contents
) -> None:
    account, heir = an_account(), an_account()
    late = server.fail(Late(), where=is_claim, times=2)
    with pytest.raises(StoreUnavailable):
        await store.register(account, HASH, a_cause(account))
    await store.sweep(now() + 2 * UNCLAIMED_AGE)
    assert contents.document(account) is None
    late.carry_out(server.execute)
    assert contents.owner(account.email) is None
    heir = an_account(account.email)
    await store.register(heir, HASH, a_cause(heir))
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_address_can_be_taken_over_before_it_is_freed(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents, is_late: bool
) -> None:
    """The owner is deleted, and the release of its claim fails, or comes after another account's claim."""
    store, other = open_store(), open_store()
    release = server.fail(Late(), where=is_claim)
    await deleted(store, account)
    assert contents.owner(account.email) == str(account.user_id)
    release.clear()
    assert await other.find_credentials(account.email) is None
    heir = an_account(account.email)
    await other.register(heir, HASH, a_cause(heir))
    if is_late:
        release.carry_out(server.execute)
    await other.sweep()
    assert await other.find_credentials(account.email) == Credentials(heir, HASH)


# What crashes leave


@pytest.mark.parametrize("work", ["sweep", "repair"])
async def test_an_unclaimed_account_is_removed_an_hour_after_it_was_written(
    server: FakeDataApi, store: AstraStore, contents: Contents, work: str
) -> None:
    """It may have been created long ago elsewhere."""
    account = an_account(created_date=now() - timedelta(days=1000))
    with server.fail(Close(), where=is_claim), pytest.raises(StoreUnavailable):
        await store.register(account, HASH, a_cause(account))
    finish = getattr(store, work)
    await finish(now() + timedelta(minutes=59))
    assert contents.document(account)
    assert await store.find_credentials(account.email) is None
    assert contents.row(account) is None
    await finish(now() + timedelta(minutes=61))
    assert contents.document(account) is None


async def test_the_repair_frees_the_address_of_an_account_that_is_gone(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    key = document_id(account.user_id)
    server.execute([KEYSPACE, ACCOUNTS], {"deleteOne": {"filter": {"_id": key}}})
    assert (await store.repair()).claims == 1
    assert contents.owner(account.email) is None
    assert (await store.repair()).claims == 0
