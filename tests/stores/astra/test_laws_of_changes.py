"""Laws 4 and 10 of the account document (docs/accounts.md), each tested where it can break."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, now
from killrvideo_grpc.domain.changes import (
    Action,
    Change,
    RefreshSession,
    Rename,
    SetStatus,
)
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.astra.account_updates import SETTLING
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.repair import Repaired, Repairs
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from tests.stores.astra.conftest import OpenStore, sent
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import cut_off
from tests.stores.test_store_contract import CHANGES
from tests.support.accounts import HASH, an_account, an_event
from tests.support.fake_data_api import Close, FakeDataApi

pytestmark = pytest.mark.anyio


# 4. Every change is one update. Projections follow.


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_one_update_with_its_event(
    server: FakeDataApi, store: AstraStore, account: Account, change: Callable[[Account], Change]
) -> None:
    event = an_event(account, Action.SUSPENDED)
    await store.apply(account, change(account), event)
    await store._background.finish()
    (update,) = [
        request.arguments["update"]
        for request in server.requests
        if request.command == "findOneAndUpdate" and "$inc" in request.arguments["update"]
    ]
    assert update["$inc"] == {"version": 1}
    assert {"pending", f"outbox.{event.event_id}"} <= update["$set"].keys()


async def test_shortening_a_full_history_does_not_change_the_account(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    key = document_id(account.user_id)
    entries = [f"{uuid4()} {what}" for _ in range(83) for what in ("+creator", "suspended", "-creator", "active")]
    entries[240] = f"{uuid4()} +creator"  # the last of the older entries, not undone by a later one
    await store._api.update_document(key, {"$set": {"history": entries[:241], "roles.newer": True}}, image="after")
    before = await store.get(account.user_id)
    assert before
    event = an_event(account, Action.SUSPENDED)
    await store.apply(before, SetStatus(AccountStatus.SUSPENDED), event)
    await store._background.finish()
    document = contents.existing(account)
    assert document["history"] == [*entries[142:241], f"{event.event_id} suspended"]
    assert document["roles"]["newer"]
    assert contents.has_event(event)
    after = await store.get(account.user_id)
    assert after
    assert (after.roles, after.status) == (before.roles, AccountStatus.SUSPENDED)
    assert Role.CREATOR in after.roles


async def test_a_refresh_costs_no_projection(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    await store.apply(account, RefreshSession("s", 2, now()))
    await store._background.finish()
    assert sent(server) == [(ACCOUNTS, "findOneAndUpdate")]


async def test_a_late_projection_never_leaves_an_older_row(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    event = an_event(account, Action.ROLE_ASSIGNED)
    older = await store._api.find_document(document_id(account.user_id))
    assert older
    await store.apply(account, Rename("Bea", None), event)
    await store._background.finish()
    # As if a slow process projected the older state only now.
    await store._projections.project(older)
    assert (contents.row(account) or {})["firstname"] == "Bea"
    assert contents.pending() == []


async def test_the_repair_replaces_an_older_row_that_a_crashed_process_left(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    older = await store._api.find_document(document_id(account.user_id))
    assert older
    await store.apply(account, Rename("Bea", None))
    await store._background.finish()
    with cut_off(server, 1, is_lost=False), pytest.raises(StoreUnavailable):
        await store._projections.project(older)
    assert (contents.row(account) or {})["firstname"] == account.first_name
    assert await Repairs(store._api).repair() == Repaired(finished=1)
    assert (contents.row(account) or {})["firstname"] == "Bea"
    assert await Repairs(store._api).repair() == Repaired()


@pytest.mark.parametrize("key", ["email:odd", "account:odd", "account:00000000-0000-4000-8000-000000000001"])
async def test_the_repair_skips_documents_in_another_format(
    store: AstraStore, account: Account, contents: Contents, key: str
) -> None:
    await store._api.insert_document({"_id": key, "version": 2})
    await store._api.update_document(document_id(account.user_id), {"$set": {"pending": "crashed"}}, image="after")
    repaired = await Repairs(store._api).repair()
    assert repaired.finished == 1
    assert contents.pending() == []
    await store._api.delete_document(key)


async def test_a_sweep_reports_an_account_that_it_cannot_finish(
    store: AstraStore, account: Account, contents: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    key = f"account:{uuid4()}"
    await store._api.insert_document({"_id": key, "version": 2, "pending": "broken"})
    await store._api.update_document(document_id(account.user_id), {"$set": {"pending": "crashed"}}, image="after")
    assert await store.sweep() == 2
    assert contents.pending() == []  # the other account is finished
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "left unfinished" in line]
    assert line.endswith(f"cause=KeyError document={key}")
    await store._api.delete_document(key)


async def test_the_repair_deletes_the_row_of_a_deleted_account(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    row = contents.row(account)
    assert row
    document = await store._api.find_document(document_id(account.user_id))
    assert document
    await store.delete(account, an_event(account, Action.DELETED))
    repairs = Repairs(store._api)
    await repairs.repair(now() + 2 * SETTLING)
    # Like a request that timed out long ago and is carried out only now.
    await store._projections._write(document, None)
    assert contents.row(account)
    assert await repairs.repair() == Repaired(finished=1)
    assert contents.row(account) is None


async def test_projecting_an_older_image_loses_no_newer_event(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    with cut_off(server, 1, is_lost=False):
        await store.apply(account, Rename("Bea", None), first := an_event(account))
        await store._background.finish()
    image = await store._api.find_document(document_id(account.user_id))
    assert image
    with cut_off(server, 1, is_lost=False):
        await store.apply(account, Rename("Cleo", None), second := an_event(account))
        await store._background.finish()
    await store._projections.project(image)
    assert contents.has_event(first)
    assert contents.has_event(second)
    assert (contents.row(account) or {})["firstname"] == "Cleo"
    assert contents.existing(account)["outbox"] == {}


async def test_a_sweep_finishes_all_pending_accounts_and_logs_their_number(
    server: FakeDataApi, open_store: OpenStore, contents: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = [an_account() for _ in range(60)]  # more than a page
    crashed = open_store()
    with server.fail(Close(), command="insertOne", name=USERS):
        for account in accounts:
            await crashed.register(account, HASH, an_event(account))
        await crashed._background.finish()
    assert len(contents.pending()) == len(accounts)
    survivor = open_store()
    assert await survivor.sweep() == len(accounts)
    assert contents.pending() == []
    assert all(contents.row(account) for account in accounts)
    assert len([line for line in capsys.readouterr().out.splitlines() if "swept" in line and "count=60" in line]) == 1
    assert await survivor.sweep() == 0
    assert "swept" not in capsys.readouterr().out


# 10. One condition per filter.


async def test_every_filter_has_one_condition(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    for change in CHANGES:
        account = await store.apply(account, change(account), an_event(account))
    await store.get_many([account.user_id, uuid4()])
    await store.find_credentials(account.email)
    await store.delete(account, an_event(account, Action.DELETED))
    await store.sweep()
    await store._background.finish()
    filters = [request.arguments["filter"] for request in server.requests if "filter" in request.arguments]
    assert {tuple(condition) for condition in filters} == {("_id",), ("pending",), ("userid",)}
    assert {request.name for request in server.requests} == {ACCOUNTS, USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY}
