"""Imports that crash, and what a sweep, a registration or another import does meanwhile."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, Credentials, Role, now
from killrvideo_grpc.domain.changes import Rename
from killrvideo_grpc.domain.errors import StoreUnavailable, UnusableStore
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.astra.sweep import UNCLAIMED_AGE
from killrvideo_grpc.stores.data_api.client import ACCOUNTS, USERS
from tests.stores.astra.conftest import OpenStore
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import crash, crashing_within
from tests.support.accounts import HASH, a_cause, a_new_address, an_account
from tests.support.fake_data_api import Close, FakeDataApi, Hang, Request
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio

OLD = datetime(2019, 3, 4, 5, 6, 7, 89000, UTC)
REQUESTS = 8  # of the import of one account


def an_import(account: Account, password_hash: str = HASH) -> ImportedAccount:
    return ImportedAccount.of(Credentials(account, password_hash), Cause("cli:ann"), "active")


async def search(store: AstraStore, word: str) -> list[Account]:
    return list((await store.search(Query.parse(word), 20)).items)


@crashing_within(REQUESTS)
@pytest.mark.parametrize(
    ("has_address", "pause"),
    [(True, timedelta(0)), (True, 2 * UNCLAIMED_AGE), (False, 2 * UNCLAIMED_AGE)],
    ids=["at once", "later", "profile only, later"],
)
async def test_an_interrupted_import_is_finished_by_the_next(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    contents: Contents,
    steps: int,
    is_lost: bool,
    has_address: bool,
    pause: timedelta,
) -> None:
    word = f"m{uuid4().hex[:12]}"
    account = an_account(f"{word}@example.org", first_name=word, created_date=OLD)
    account = account if has_address else replace(account, email="")
    first, second = an_import(account), an_import(account)
    await crash(server, store, lambda: store.import_accounts([first]), steps, is_lost=is_lost)
    survivor = open_store()
    await survivor.sweep(now() + pause)
    (outcome,) = await survivor.import_accounts([second])
    assert outcome in (ImportOutcome.IMPORTED, ImportOutcome.EXISTS)
    await survivor.sweep(now() + UNCLAIMED_AGE - timedelta(minutes=1))
    assert await survivor.get_credentials(account.user_id) == Credentials(account, HASH)
    if has_address:
        assert await survivor.find_credentials(account.email) == Credentials(account, HASH)
    assert await search(survivor, word) == [account]
    recorded = [contents.recorded(each.event) for each in (first, second)]
    assert sorted(recorded) == [[0, 0], [1, 1]]
    assert contents.pending() == []
    assert await survivor.import_accounts([an_import(account)]) == [ImportOutcome.EXISTS]


@pytest.mark.parametrize("steps", range(REQUESTS + 1))
async def test_sweeps_during_an_import_take_nothing(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore, contents: Contents, steps: int
) -> None:
    """A request of the import hangs while another process sweeps."""
    account = an_account(created_date=OLD)
    hanging = server.fail(Hang(), skip=steps, times=1)
    task = asyncio.create_task(store.import_accounts([an_import(account)]))
    if steps < REQUESTS:
        await asyncio.to_thread(server.wait_until, lambda: hanging.hits == 1)
        await open_store().sweep()
    hanging.clear()
    assert await task in ([ImportOutcome.IMPORTED], [ImportOutcome.EXISTS])
    assert await store.find_credentials(account.email) == Credentials(account, HASH)
    await open_store().sweep(now() + 2 * UNCLAIMED_AGE)
    assert await store.find_credentials(account.email) == Credentials(account, HASH)
    assert contents.row(account)


async def test_a_sweep_that_is_about_to_remove_what_a_crash_left(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore
) -> None:
    """The second import comes between the sweep's fence and its removal."""
    account = an_account(created_date=OLD)
    await crash(server, store, lambda: store.import_accounts([an_import(account)]), 2, is_lost=False)
    held = server.fail(Hang(), command="deleteOne", name=ACCOUNTS, times=1)
    sweep = asyncio.create_task(open_store().sweep(now() + 2 * UNCLAIMED_AGE))
    await asyncio.to_thread(server.wait_until, lambda: held.hits == 1)
    survivor, projecting = open_store(), server.fail(Hang(), command="insertOne", name=USERS, times=1)
    importing = asyncio.create_task(survivor.import_accounts([an_import(account)]))
    await asyncio.to_thread(server.wait_until, lambda: projecting.hits == 1)
    held.clear()
    await sweep
    projecting.clear()
    assert await importing == [ImportOutcome.EXISTS]
    assert await survivor.find_credentials(account.email) == Credentials(account, HASH)


async def test_a_sweep_finishes_an_account_without_an_address(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore, contents: Contents
) -> None:
    account = replace(an_account(created_date=OLD), email="")
    await crash(server, store, lambda: store.import_accounts([an_import(account, "")]), 2, is_lost=False)
    assert contents.row(account) is None
    await open_store().sweep(now() + 2 * UNCLAIMED_AGE)
    assert (contents.row(account) or {})["firstname"] == account.first_name
    assert contents.pending() == []


async def test_an_address_that_was_registered_after_a_crash(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore, contents: Contents
) -> None:
    account = an_account(created_date=OLD)
    await crash(server, store, lambda: store.import_accounts([an_import(account)]), 2, is_lost=False)
    assert contents.document(account)
    survivor, other = open_store(), an_account(account.email)
    await survivor.register(other, HASH, a_cause(other))
    assert await survivor.import_accounts([an_import(account)]) == [ImportOutcome.EMAIL_TAKEN]
    assert contents.document(account) is None
    nameless = replace(account, email="")
    assert await survivor.import_accounts([an_import(nameless, "")]) == [ImportOutcome.IMPORTED]
    assert await survivor.find_credentials(account.email) == Credentials(other, HASH)


@pytest.mark.parametrize("steps", range(9))
async def test_an_address_that_a_crashed_change_has_marked(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore, account: Account, steps: int
) -> None:
    """The claim counts only if the account names the address."""
    new = an_account(created_date=OLD)
    change = a_new_address(account, new.email)
    await crash(server, store, lambda: store.apply(account.user_id, change, a_cause(account)), steps, is_lost=False)
    survivor = open_store()
    has_it = (await survivor.get_many([account.user_id]))[account.user_id].email == new.email
    expected = [ImportOutcome.EMAIL_TAKEN if has_it else ImportOutcome.IMPORTED]
    assert await survivor.import_accounts([an_import(new)], dry_run=True) == expected
    assert await survivor.import_accounts([an_import(new)]) == expected
    found = await survivor.find_credentials(new.email)
    assert found
    assert found.account.user_id == (account if has_it else new).user_id


async def test_an_account_that_was_changed_before_it_got_its_address(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore
) -> None:
    account = an_account(created_date=OLD)
    await crash(server, store, lambda: store.import_accounts([an_import(account)]), 2, is_lost=False)
    survivor = open_store()
    renamed = await survivor.apply(account.user_id, Rename("Bea", None), a_cause(account))
    assert await survivor.import_accounts([an_import(account)]) == [ImportOutcome.EXISTS]
    assert await survivor.find_credentials(account.email) == Credentials(renamed, HASH)


async def test_one_that_fails_does_not_stop_the_others(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore
) -> None:
    accounts = [an_account(created_date=OLD, roles=frozenset({Role.VIEWER, Role.CREATOR})) for _ in range(5)]
    batch = [an_import(account) for account in accounts]
    unlucky = f"account:{accounts[2].user_id}"

    def is_unlucky(request: Request) -> bool:
        return unlucky in repr(request.body)

    with server.fail(Close(), name=ACCOUNTS, command="insertOne", where=is_unlucky), pytest.raises(StoreUnavailable):
        await store.import_accounts(batch)
    there = await open_store().get_many([account.user_id for account in accounts])
    assert accounts[2].user_id not in there
    assert len(there) == 4
    outcomes = await store.import_accounts(batch)
    assert [outcome.name for outcome in outcomes] == ["EXISTS", "EXISTS", "IMPORTED", "EXISTS", "EXISTS"]


async def test_requests_of_an_import(server: FakeDataApi, store: AstraStore) -> None:
    """One request finds out what exists of a batch; each new account takes 6 more, and the first of a day one."""
    accounts = [an_account(created_date=OLD) for _ in range(10)]
    server.forget_requests()
    await store.import_accounts([an_import(account) for account in accounts])
    assert len(server.requests) <= 1 + 6 * 10 + 10
    server.forget_requests()
    assert await store.import_accounts([an_import(account) for account in accounts]) == [ImportOutcome.EXISTS] * 10
    assert len(server.requests) == 1


async def test_a_document_that_cannot_be_read_stops_an_export(server: FakeDataApi, store: AstraStore) -> None:
    broken = f"account:{uuid4()}"
    server.execute([KEYSPACE, ACCOUNTS], {"insertOne": {"document": {"_id": broken, "status": "active"}}})
    try:
        with pytest.raises(UnusableStore, match=broken):
            [page async for page in store.all_credentials()]
    finally:
        server.execute([KEYSPACE, ACCOUNTS], {"deleteOne": {"filter": {"_id": broken}}})
