"""Rows and events: written after the answer, finished by sweeps, and never left older than the account."""

from datetime import datetime, timedelta

import pytest

from killrvideo_grpc.domain.account import Account, Role, now
from killrvideo_grpc.domain.changes import AssignRole, Delete, Rename
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.astra.sweep import SETTLE_TIME
from killrvideo_grpc.stores.data_api.client import ACCOUNTS, USERS
from tests.stores.astra.conftest import OpenStore
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import cut_off
from tests.support.accounts import HASH, a_cause, an_account, opening
from tests.support.fake_data_api import Close, FakeDataApi, Late
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio


async def settle(store: AstraStore) -> None:
    """Sweeps as often as it takes until no row can be late."""
    at = now()
    await store.sweep(at)
    await store.sweep(at + SETTLE_TIME)


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
    assert await store.sweep(at + SETTLE_TIME - timedelta(seconds=1)) == 0
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


async def test_a_change_restarts_the_wait_for_late_rows(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.apply(account.user_id, Rename("Bea", None), a_cause(account))
    await store.finish()
    at = now()
    await store.sweep(at)
    await store.apply(account.user_id, opening(account), a_cause(account))
    await store.finish()
    await store.sweep(at + SETTLE_TIME)
    assert contents.existing(account)["pending"] == "settle"
    await store.sweep(at + 2 * SETTLE_TIME)
    assert "pending" not in contents.existing(account)


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


async def test_a_sweep_finishes_all_pending_accounts_and_logs_their_number(
    server: FakeDataApi, open_store: OpenStore, contents: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = [an_account() for _ in range(60)]  # more than a page
    crashed = open_store()
    with server.fail(Close(), command="insertOne", name=USERS):
        for account in accounts:
            await crashed.register(account, HASH, a_cause(account))
        await crashed.finish()
    assert len(contents.pending()) == len(accounts)
    survivor = open_store()
    assert await survivor.sweep() == len(accounts)
    assert contents.pending() == []
    assert all(contents.row(account) for account in accounts)
    assert len([line for line in capsys.readouterr().out.splitlines() if "swept" in line and "count=60" in line]) == 1
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
        *("_id", "revision", "recent", "status", "password_hash", "written", "created_date", "last_login_date")
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
