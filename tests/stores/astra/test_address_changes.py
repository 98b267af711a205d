"""Changes of the address on a Data API: crashes, lost and late answers, and races with sweeps."""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from killrvideo_grpc.domain.account import Account, Credentials, now
from killrvideo_grpc.domain.changes import Delete
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, InvalidCredentials, StoreUnavailable, UserNotFound
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNTS
from tests.stores.astra.conftest import OpenStore, sent
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import crash, crashing_within
from tests.support.accounts import HASH, a_cause, a_new_address, a_new_password, a_reset_request, an_account, an_address
from tests.support.fake_data_api import Close, FakeDataApi, Late, Request
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio

READ, BOTH, CHANGE, INSERT = "findOne", "find", "updateOne", "insertOne"


def is_write(request: Request) -> bool:
    return request.name == ACCOUNTS and request.command in (CHANGE, INSERT)


def frees(request: Request) -> bool:
    return is_write(request) and request.arguments.get("update", {}).get("$set", {"owner": ""}).get("owner", "") is None


def claim_of(server: FakeDataApi, email: str) -> dict[str, Any]:
    return server.document(KEYSPACE, ACCOUNTS, claim_id(email)) or {}


async def owners(store: AstraStore, *emails: str) -> list[Account | None]:
    found = [await store.find_credentials(email) for email in emails]
    return [each.account if each else None for each in found]


async def assert_one_logs_in(store: AstraStore, account: Account, new: str) -> Account:
    """Assert that the account logs in with one of two addresses, and return it."""
    (found,) = [each for each in await owners(store, account.email, new) if each]
    assert found.user_id == account.user_id
    assert found.email in (account.email, new)
    return found


async def assert_settled(store: AstraStore, server: FakeDataApi, account: Account, new: str) -> Account:
    """Assert that the account logs in with one of two addresses and owns it, and that the other one is free."""
    found = await assert_one_logs_in(store, account, new)
    (other,) = {account.email, new} - {found.email}
    assert claim_of(server, found.email).get("owner") == str(account.user_id)
    assert claim_of(server, other).get("owner") is None
    for email in (found.email, other):
        assert claim_of(server, email).keys() <= {"_id", "revision", "owner"}  # it is not pending
    return found


async def test_a_new_address_is_claimed_before_the_old_one_is_freed(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    seen = await store.get(account.user_id)
    address, cause = an_address(), a_cause(account)
    server.forget_requests()
    moved = await store.apply(account.user_id, a_new_address(account, address), cause, seen=seen)
    await store.finish()
    accounts = [command for name, command in sent(server) if name == ACCOUNTS]
    assert accounts[:4] == [BOTH, CHANGE, INSERT, CHANGE]  # both claims, the old one, the new one, the account
    written = [r.arguments.get("document") or r.arguments["update"]["$set"] for r in server.requests if is_write(r)]
    assert ["recent" in each for each in written[:3]] == [False, False, True]
    # In any order: both claims again, and what is projected.
    assert sorted("recent" in each for each in written[3:]) == [False, False, True]
    assert contents.owner(account.email) is None
    assert contents.owner(address) == str(account.user_id)
    assert (contents.row(account) or {})["email"] == address
    assert contents.has_event(cause)
    assert await assert_settled(store, server, account, address) == moved
    heir = an_account(account.email)
    await store.register(heir, HASH, a_cause(heir))
    with pytest.raises(EmailAlreadyRegistered):
        await store.apply(heir.user_id, a_new_address(heir, address), a_cause(heir))
    assert await owners(store, address, account.email) == [moved, heir]


@crashing_within(12)
async def test_a_crash_leaves_the_account_one_address(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    address, event = an_address(), a_cause(account)
    change = a_new_address(account, address)
    answered = await crash(server, store, lambda: store.apply(account.user_id, change, event), steps, is_lost=is_lost)
    survivor = open_store()
    found = await assert_one_logs_in(survivor, account, address)
    assert found.email == address or not answered
    await survivor.sweep()
    assert contents.pending() == []
    assert await assert_settled(survivor, server, account, address) == found
    assert contents.has_event(event) == (found.email == address)
    assert (contents.row(account) or {})["email"] == found.email


@crashing_within(6)
async def test_after_a_crash_the_account_can_change_again(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore, account: Account, steps: int, is_lost: bool
) -> None:
    """Before any sweep, to the same address, to another or back."""
    address, third = an_address(), an_address()
    change = a_new_address(account, address)
    await crash(server, store, lambda: store.apply(account.user_id, change, a_cause(account)), steps, is_lost=is_lost)
    survivor = open_store()
    for email in (address, third, account.email):
        moved = await survivor.apply(account.user_id, a_new_address(account, email), a_cause(account))
        found = [each for each in await owners(survivor, account.email, address, third) if each]
        assert found == [moved]
    await survivor.sweep()
    await assert_settled(survivor, server, account, address)
    await assert_settled(survivor, server, account, third)


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(5))
async def test_no_lost_answer_loses_an_address(
    server: FakeDataApi, store: AstraStore, account: Account, after_write: bool, step: int
) -> None:
    address, event = an_address(), a_cause(account)
    with server.fail(Close(), after_write=after_write, skip=step, times=1):
        moved = await store.apply(account.user_id, a_new_address(account, address), event)
    await store.finish()
    assert moved.email == address
    assert await store.find_credentials(address) == Credentials(moved, HASH)
    recorded = [each.action for each in (await store.events(account.user_id, 10)).items]
    assert recorded == ["email_changed", "registered"]
    await store.sweep()
    await assert_settled(store, server, account, address)


@pytest.mark.parametrize("is_swept", [False, True], ids=["late", "after a sweep"])
@pytest.mark.parametrize("write", range(3), ids=["old claim", "new claim", "account"])
async def test_a_late_write_gives_the_account_no_second_address(
    server: FakeDataApi, open_store: OpenStore, account: Account, write: int, is_swept: bool
) -> None:
    store, other, address = open_store(), open_store(), an_address()
    late = server.fail(Late(), where=is_write, skip=write)
    with suppress(StoreUnavailable):
        await store.apply(account.user_id, a_new_address(account, address), a_cause(account))
    await store.finish()
    late.clear()
    if is_swept:
        await other.sweep()
        await assert_settled(other, server, account, address)
    late.carry_out(server.execute)
    found = await assert_one_logs_in(other, account, address)
    await other.sweep()
    assert await assert_settled(other, server, account, address) == found


async def test_a_late_sweep_frees_no_address_that_was_claimed_anew(
    server: FakeDataApi, open_store: OpenStore, account: Account
) -> None:
    """The sweep read the claim that a crash left. Then the account claims the address again, and crashes again."""
    store, sweeper, address = open_store(), open_store(), an_address()

    async def change() -> Account:
        return await store.apply(account.user_id, a_new_address(account, address), a_cause(account))

    assert not await crash(server, store, change, 4, is_lost=False)  # both claims are written
    late = server.fail(Late(), where=frees)
    await sweeper.sweep()
    late.clear()
    await crash(server, store, change, 5, is_lost=False)  # so is the account
    late.carry_out(server.execute)
    assert (await assert_one_logs_in(sweeper, account, address)).email == address
    await sweeper.sweep()
    await assert_settled(sweeper, server, account, address)


async def test_a_deletion_during_the_change_frees_both_addresses(
    server: FakeDataApi, open_store: OpenStore, account: Account
) -> None:
    """It comes between the claims and the account."""
    store, other, address = open_store(), open_store(), an_address()
    seen = await store.get(account.user_id)
    await other.apply(account.user_id, Delete(None), a_cause(account))
    with pytest.raises(UserNotFound):
        await store.apply(account.user_id, a_new_address(account, address), a_cause(account), seen=seen)
    await store.finish()
    await other.finish()
    await other.sweep()
    assert await owners(other, account.email, address) == [None, None]
    for email in (account.email, address):
        assert not claim_of(server, email).get("owner")
        assert "pending" not in claim_of(server, email)


async def test_a_change_that_is_refused_leaves_no_claim(
    server: FakeDataApi, open_store: OpenStore, account: Account
) -> None:
    """The password is replaced between the claims and the account."""
    store, other, address = open_store(), open_store(), an_address()
    seen = await store.get(account.user_id)
    await other.apply(account.user_id, a_new_password(account), a_cause(account))
    with pytest.raises(InvalidCredentials):
        await store.apply(account.user_id, a_new_address(account, address), a_cause(account), seen=seen)
    await store.finish()
    assert (await assert_settled(other, server, account, address)).email == account.email


async def test_the_repair_frees_an_address_that_its_owner_does_not_use(
    server: FakeDataApi, store: AstraStore, account: Account
) -> None:
    moved = await store.apply(account.user_id, a_new_address(account), a_cause(account))
    await store.finish()
    update = {"$set": {"owner": str(account.user_id)}}
    server.execute([KEYSPACE, ACCOUNTS], {"updateOne": {"filter": {"_id": claim_id(account.email)}, "update": update}})
    assert await owners(store, account.email) == [None]
    assert (await store.repair()).claims == 1
    await assert_settled(store, server, account, moved.email)
    assert (await store.repair()).claims == 0


async def test_documents_without_the_newer_fields_are_read(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    assert contents.existing(account).keys().isdisjoint({"reset_code", "unblocked_date"})
    await store.apply(account.user_id, a_reset_request(), a_cause(account))
    assert contents.existing(account)["reset_code"]["digest"] == "digest"
    await store.apply(account.user_id, a_new_password(account), a_cause(account))
    assert "reset_code" not in contents.existing(account)


@pytest.mark.parametrize(("seed", "losing"), [(0, 0.0), (1, 0.15)], ids=["calm", "answers lost"])
async def test_races_for_few_addresses_leave_each_one_owner(
    server: FakeDataApi, open_store: OpenStore, seed: int, losing: float
) -> None:
    """Accounts move between few addresses in four processes, while people register, delete accounts and sweep."""
    chance = random.Random(seed)
    stores, addresses = [open_store() for _ in range(4)], [an_address() for _ in range(5)]
    living: dict[UUID, Account] = {}

    async def act(store: AstraStore) -> None:
        for _ in range(10):
            email, kind = chance.choice(addresses), chance.random()
            account = chance.choice(list(living.values())) if living else None
            with suppress(EmailAlreadyRegistered, UserNotFound, StoreUnavailable):
                if kind < 0.25 or account is None:
                    account = an_account(email)
                    await store.register(account, HASH, a_cause(account))
                    living[account.user_id] = account
                elif kind < 0.75:
                    await store.apply(account.user_id, a_new_address(account, email), a_cause(account))
                elif kind < 0.85:
                    await store.apply(account.user_id, Delete(None), a_cause(account))
                else:
                    await store.sweep()

    lost = server.fail(
        Close(), where=lambda request: is_write(request) and chance.random() < losing, after_write=chance.random() < 0.5
    )
    await asyncio.gather(*(act(store) for store in stores))
    lost.clear()
    for store in stores:
        await store.finish()
    for _ in range(2):
        await stores[0].sweep(now() + timedelta(hours=2))
    await assert_consistent(server, stores[1], list(living), addresses)


async def assert_consistent(server: FakeDataApi, store: AstraStore, accounts: list[UUID], addresses: list[str]) -> None:
    """Assert that every account logs in with its address, and that every claim is that of such an account."""
    for account in (await store.get_many(accounts)).values():
        assert await owners(store, account.email) == [account]
    for email in addresses:
        (found,) = await owners(store, email)
        assert claim_of(server, email).get("owner") == (str(found.user_id) if found else None)
        assert "pending" not in claim_of(server, email)
