"""Rows and events: written after the answer, completed by sweeps, and never left older than the account."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, Role, now
from killrvideo_grpc.domain.changes import AssignRole, Delete, Rename
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.astra.sweep import SETTLE_TIME, UNCLAIMED_AGE
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from tests.stores.astra.conftest import OpenStore
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import cut_off
from tests.support.accounts import HASH, a_cause, an_account, opening
from tests.support.fake_data_api import Close, ErrorAnswer, FakeDataApi, Hang, Late, Request
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio


async def settle(store: AstraStore) -> None:
    """Sweep until no row can be late."""
    await store.sweep()
    await store.sweep(now() + SETTLE_TIME)


async def test_a_login_leaves_nothing_for_the_sweep(store: AstraStore, account: Account, contents: Contents) -> None:
    await store.apply(account.user_id, login := opening(account), a_cause(account))
    await store.finish()
    document = contents.existing(account)
    assert not document.keys() & {"pending", "outbox"}
    row = contents.row(account)
    assert row
    assert datetime.fromisoformat(row["last_login_date"]) == login.session.created_date


async def test_a_row_that_changed_visibly_is_written_once_more(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    late = server.fail(Late(), name=USERS, times=1)
    await store.apply(account.user_id, opening(account), a_cause(account))  # whose row is late
    await store.finish()
    await store.apply(account.user_id, Rename("Bea", None), a_cause(account))
    await store.finish()
    assert (contents.row(account) or {})["firstname"] == "Bea"
    late.carry_out(server.execute)
    assert (contents.row(account) or {})["firstname"] == "Ann"
    at = now()
    assert await store.sweep(at) == 0  # nothing is unfinished
    assert await store.sweep(at + SETTLE_TIME - timedelta(seconds=30)) == 0
    assert (contents.row(account) or {})["firstname"] == "Ann"
    await store.sweep(at + SETTLE_TIME)
    assert (contents.row(account) or {})["firstname"] == "Bea"
    assert "pending" not in contents.existing(account)


async def test_a_late_row_of_a_deleted_account_is_removed(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    late = server.fail(Late(), name=USERS, times=1)
    await store.apply(account.user_id, Rename("Planted", None), a_cause(account))
    await store.finish()
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    late.carry_out(server.execute)
    assert contents.row(account)
    await settle(store)
    assert contents.row(account) is None
    assert "Planted" not in contents.everything()
    assert not contents.existing(account).keys() & {"pending", "claim"}


async def test_logins_do_not_prolong_the_wait_for_late_rows(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.apply(account.user_id, Rename("Bea", None), a_cause(account))
    await store.finish()
    await store.apply(account.user_id, opening(account), a_cause(account))
    await store.finish()
    assert contents.existing(account)["pending"] == "settle"
    await store.sweep(now() + SETTLE_TIME)  # of any process
    assert not contents.existing(account).keys() & {"pending", "row_changed"}


async def test_a_process_that_is_slow_to_project_does_not_leave_an_older_row(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    slow, other = open_store(), open_store()
    row = server.fail(Late(), name=USERS, times=1)
    with cut_off(server, 2, is_lost=False):  # it crashes after sending its row
        await slow.apply(account.user_id, Rename("Older", None), a_cause(account))
        await slow.finish()
    await other.apply(account.user_id, Rename("Newer", None), a_cause(account))
    await other.finish()
    row.carry_out(server.execute)
    await settle(other)
    assert (contents.row(account) or {})["firstname"] == "Newer"


def copy_registration(server: FakeDataApi, registered: Account, account: Account) -> None:
    """Write the documents of a registered account as those of another."""
    key, claim = document_id(account.user_id), claim_id(account.email)
    for original, changed in (
        (document_id(registered.user_id), {"_id": key, "email": account.email, "claim": claim}),
        (claim_id(registered.email), {"_id": claim, "owner": str(account.user_id)}),
    ):
        document = server.document(KEYSPACE, ACCOUNTS, original) or {}
        copied = document | changed | {"revision": uuid4().hex}
        server.execute([KEYSPACE, ACCOUNTS], {"insertOne": {"document": copied}})


async def test_a_sweep_finishes_all_pending_accounts_and_logs_their_number(
    server: FakeDataApi, open_store: OpenStore, contents: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = [an_account() for _ in range(52)]  # more than a page
    crashed = open_store()
    with server.fail(Close(), command="insertOne", name=USERS):
        await crashed.register(accounts[0], HASH, a_cause(accounts[0]))
        await crashed.finish()
    for account in accounts[1:]:
        copy_registration(server, accounts[0], account)
    assert len(contents.pending()) == len(accounts)
    survivor = open_store()
    assert await survivor.sweep() == len(accounts)
    assert contents.pending() == []
    assert all(contents.row(account) for account in accounts)
    assert len([line for line in capsys.readouterr().out.splitlines() if "swept" in line and "count=52" in line]) == 1
    assert await survivor.sweep() == 0
    assert "swept" not in capsys.readouterr().out


async def test_two_sweeps_at_once_record_each_event_once(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    cause = a_cause(account)
    with cut_off(server, 2, is_lost=False):
        await open_store().apply(account.user_id, AssignRole(Role.CREATOR), cause)
    first, second = open_store(), open_store()
    await first.sweep()
    await second.sweep()
    assert contents.has_event(cause)
    assert contents.pending() == []


@pytest.mark.parametrize("key", ["account:odd", "account:00000000-0000-4000-8000-000000000001", "odd"])
async def test_a_document_in_another_format_is_reported_and_stops_no_sweep(
    server: FakeDataApi,
    open_store: OpenStore,
    account: Account,
    contents: Contents,
    capsys: pytest.CaptureFixture[str],
    key: str,
) -> None:
    store = open_store()
    server.execute([KEYSPACE, ACCOUNTS], {"insertOne": {"document": {"_id": key, "pending": "project"}}})
    with cut_off(server, 2, is_lost=False):
        await store.apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account))
        await store.finish()
    assert await store.sweep() == 2
    assert contents.pending() == [key]
    assert (await store.repair()).failed == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "left unfinished" in line]
    assert len(lines) == 2
    assert all(line.endswith(f"document={key}") for line in lines)
    server.execute([KEYSPACE, ACCOUNTS], {"deleteOne": {"filter": {"_id": key}}})


@pytest.mark.parametrize("fault", [ErrorAnswer("UNEXPECTED_DRIVER_ERROR"), Close()], ids=repr)
async def test_an_account_that_is_not_finished_stops_no_sweep(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents, fault: Any
) -> None:
    crashed, store, others = open_store(), open_store(), [an_account() for _ in range(3)]
    await store.sweep()
    with server.fail(Close(), name=USERS):
        for each in others:
            await crashed.register(each, HASH, a_cause(each))
        await crashed.apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account))
        await crashed.finish()

    def is_of_account(request: Request) -> bool:
        return request.name == USERS and str(account.user_id) in str(request.body)

    with server.fail(fault, where=is_of_account):
        assert await store.sweep() == 4
    assert contents.pending() == [document_id(account.user_id)]
    assert await store.sweep() == 1


async def test_a_settling_row_that_is_overtaken_by_a_change_is_written_again(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    """Between the read and the write of a sweep, another process changes the account and writes its row."""
    store, other = open_store(), open_store()
    await store.apply(account.user_id, Rename("Older", None), a_cause(account))
    await store.finish()
    with server.fail(Hang(), name=USERS, times=1) as hang:
        sweeping = asyncio.create_task(store.sweep(now() + SETTLE_TIME))
        await asyncio.to_thread(server.wait_until, lambda: hang.hits == 1)
        await other.apply(account.user_id, Rename("Newer", None), a_cause(account))
        await other.finish()
    await sweeping
    assert (contents.row(account) or {})["firstname"] == "Newer"


async def test_a_deleted_account_without_a_claim_is_not_taken_for_an_unclaimed_one(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    crashed, cause = open_store(), a_cause(account)
    with server.fail(Close(), name=ACCOUNT_EVENTS):  # after the claim was released
        await crashed.apply(account.user_id, Delete(account.credential_id), cause)
        await crashed.finish()
    assert contents.owner(account.email) is None
    await open_store().sweep(now() + 2 * UNCLAIMED_AGE)
    assert contents.has_event(cause)


@pytest.mark.parametrize("change", ["register", "delete"])
async def test_a_caller_who_hangs_up_leaves_nothing_to_a_sweep(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents, change: str
) -> None:
    new = an_account()

    async def register_or_delete() -> None:
        if change == "register":
            await store.register(new, HASH, a_cause(new))
        else:
            await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))

    def takes_effect(request: Request) -> bool:
        if change == "register":
            return request.command == "insertOne" and "owner" in request.arguments["document"]
        return request.command == "updateOne"

    with server.fail(Hang(), where=takes_effect, after_write=True, times=1) as hang:
        call = asyncio.create_task(register_or_delete())
        await asyncio.to_thread(server.wait_until, lambda: hang.hits == 1)
        call.cancel()
        await asyncio.wait([call])
    await store.finish()
    assert bool(contents.row(new)) == (change == "register")
    assert bool(contents.row(account)) == (change == "register")
    assert contents.pending() == []


@pytest.mark.parametrize("fault", [ErrorAnswer("INVALID_COLUMN_VALUES", "REQUEST", "DOCUMENT"), Hang()], ids=repr)
async def test_a_deletion_is_answered_whatever_its_tables_do(
    server: FakeDataApi, store: AstraStore, account: Account, fault: Any
) -> None:
    with server.fail(fault, name=USERS):
        await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    assert await store.get(account.user_id) is None


async def test_an_event_of_a_newer_version_is_listed(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY):
        (row,) = [row for row in server.rows(KEYSPACE, table) if row.get("account") == str(account.user_id)]
        server.put_row(KEYSPACE, table, row | {"action": "transmogrified"})
    assert [event.action for event in (await store.events(account.user_id, 10)).items] == ["transmogrified"]


@pytest.mark.parametrize("column", ["firstname", "account_status"])
async def test_the_repair_rewrites_a_row_that_differs(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents, column: str
) -> None:
    await store.repair()
    row = contents.row(account)
    assert row
    server.put_row(KEYSPACE, USERS, {"userid": str(account.user_id), column: "odd"})
    assert (await store.repair()).finished == 1
    assert contents.row(account) == row
    assert (await store.repair()).finished == 0


async def test_the_repair_deletes_the_row_of_a_deleted_account(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    await settle(store)
    await store.repair()
    server.put_row(KEYSPACE, USERS, {"userid": str(account.user_id), "firstname": "Ann"})
    assert (await store.repair()).finished == 1
    assert contents.row(account) is None


async def test_a_tombstone_contains_nothing_personal(store: AstraStore, account: Account, contents: Contents) -> None:
    await store.apply(account.user_id, opening(account), a_cause(account))
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    await settle(store)
    tombstone = contents.existing(account)
    assert tombstone.keys() == {
        *("_id", "revision", "recent", "status", "password_hash", "written", "created_date", "last_login_date"),
        "last_event",
    }
    assert (tombstone["_id"], tombstone["status"]) == (document_id(account.user_id), "deleted")
    assert tombstone["password_hash"] == ""


async def test_a_deletion_is_projected_before_the_answer(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.apply(account.user_id, Delete(account.credential_id), cause := a_cause(account))
    assert contents.row(account) is None
    assert contents.owner(account.email) is None
    assert contents.has_event(cause)


async def test_a_deletion_stands_when_its_projection_fails(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.sweep()
    with server.fail(Close(), name=USERS):
        await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    assert contents.row(account)
    assert await store.sweep() == 1
    assert contents.row(account) is None
    with pytest.raises(StoreUnavailable), server.fail(Close()):
        await store.sweep()
