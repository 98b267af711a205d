"""The moderator index: always a subset of the active moderators."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.changes import AssignRole, Change, RevokeRole
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.astra.moderator_index import INDEX_ID
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNTS
from tests.stores.astra.conftest import OpenStore, Prepared, promoted
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import cut_off
from tests.support.accounts import a_cause
from tests.support.fake_data_api import Close, FakeDataApi, Hang, Late, Request, Snapshot
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio


def changed(request: Request) -> set[str]:
    """The fields that a request changes by compare-and-set."""
    return set(request.arguments.get("update", {}).get("$set", ())) if request.command == "updateOne" else set()


def writes_index(request: Request) -> bool:
    return bool(changed(request) & {"ids", "leaving"})


def writes_roles(request: Request) -> bool:
    return "roles" in changed(request)


@pytest.fixture(scope="module")
def promotions(prepared: Prepared) -> tuple[list[Account], Snapshot]:
    return promoted(prepared, 2)


@pytest.fixture
def moderators(server: FakeDataApi, promotions: tuple[list[Account], Snapshot]) -> list[Account]:
    """Two accounts, the only moderators."""
    accounts, snapshot = promotions
    server.restore(snapshot)
    return accounts


def ids(*accounts: Account) -> set[str]:
    return {str(account.user_id) for account in accounts}


async def test_settling_a_moderator_makes_a_demotion_under_way_start_again(
    server: FakeDataApi, open_store: OpenStore, moderators: list[Account], contents: Contents
) -> None:
    """Its write of the account would otherwise succeed after the sweep has listed the account again."""
    store, other = open_store(), open_store()
    demoted, _ = moderators
    with server.fail(Hang(), where=writes_roles, times=1) as hang:
        demotion = asyncio.create_task(store.apply(demoted.user_id, RevokeRole(Role.MODERATOR), a_cause(demoted)))
        await asyncio.to_thread(server.wait_until, lambda: hang.hits == 1)
        await other.sweep()  # finds the account in `leaving`
        assert str(demoted.user_id) in contents.index()
        crash = server.fail(Close(), where=writes_index)  # the demotion can't write the index again
    with suppress(StoreUnavailable):
        await demotion
    assert contents.index() <= contents.moderators()
    crash.clear()
    await store.finish()
    await other.sweep()
    assert contents.index() == contents.moderators()


async def test_a_demotion_during_a_promotion_is_not_lost(
    server: FakeDataApi, open_store: OpenStore, moderators: list[Account], account: Account, contents: Contents
) -> None:
    """The promotion read the index before it wrote the account, so a demotion since then has changed the index."""
    store, other = open_store(), open_store()
    with server.fail(Hang(), where=writes_index, times=1) as hang:
        promotion = asyncio.create_task(store.apply(account.user_id, AssignRole(Role.MODERATOR), a_cause(account)))
        await asyncio.to_thread(server.wait_until, lambda: hang.hits == 1)
        await other.apply(account.user_id, RevokeRole(Role.MODERATOR), a_cause(account))
        await other.finish()
    await promotion
    await store.finish()
    assert contents.index() == contents.moderators() == ids(*moderators)


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_caller_who_hangs_up_leaves_nothing_to_a_sweep(
    server: FakeDataApi,
    store: AstraStore,
    moderators: list[Account],
    account: Account,
    contents: Contents,
    is_answered: bool,
) -> None:
    changes: list[tuple[Account, Change]] = [
        (account, AssignRole(Role.MODERATOR)),
        (moderators[0], RevokeRole(Role.MODERATOR)),
    ]
    for changing, change in changes:
        with server.fail(Hang(), where=writes_roles, after_write=is_answered, times=1) as hang:
            call = asyncio.create_task(store.apply(changing.user_id, change, a_cause(changing)))
            await asyncio.to_thread(server.wait_until, lambda: hang.hits == 1)
            call.cancel()
            await asyncio.wait([call])
        await store.finish()
        assert contents.index() == contents.moderators()
        assert INDEX_ID not in contents.pending()


async def test_the_repair_lists_the_moderators_and_no_one_else(
    server: FakeDataApi, store: AstraStore, moderators: list[Account], contents: Contents
) -> None:
    wrong = [str(moderators[0].user_id), str(uuid4())]
    fields = {"ids": wrong, "revision": "restored"}
    server.execute([KEYSPACE, ACCOUNTS], {"updateOne": {"filter": {"_id": INDEX_ID}, "update": {"$set": fields}}})
    assert (await store.repair()).moderators == 2  # one removed, one added
    assert contents.index() == contents.moderators() == ids(*moderators)
    assert (await store.repair()).moderators == 0


async def test_an_index_that_cannot_be_read_stops_no_repair(
    server: FakeDataApi, store: AstraStore, moderators: list[Account]
) -> None:
    update = {"$unset": {"ids": ""}, "$set": {"revision": "restored"}}
    server.execute([KEYSPACE, ACCOUNTS], {"updateOne": {"filter": {"_id": INDEX_ID}, "update": update}})
    assert (await store.repair()).failed >= 1


async def test_an_index_that_is_missing_is_made_again(
    server: FakeDataApi, store: AstraStore, moderators: list[Account], contents: Contents
) -> None:
    server.execute([KEYSPACE, ACCOUNTS], {"deleteOne": {"filter": {"_id": INDEX_ID}}})
    await store.repair()
    assert contents.index() == contents.moderators() == ids(*moderators)


async def test_a_late_promotion_does_nothing_after_a_demotion_that_was_answered(
    server: FakeDataApi, open_store: OpenStore, moderators: list[Account], account: Account, contents: Contents
) -> None:
    store, other = open_store(), open_store()
    late = server.fail(Late(), where=writes_roles, times=2)
    with pytest.raises(StoreUnavailable):
        await store.apply(account.user_id, AssignRole(Role.MODERATOR), a_cause(account))
    await other.apply(account.user_id, RevokeRole(Role.MODERATOR), a_cause(account))
    late.carry_out(server.execute)
    await store.finish()
    assert contents.index() == contents.moderators() == ids(*moderators)


async def test_a_crash_of_the_promotion_costs_no_moderator(
    server: FakeDataApi, open_store: OpenStore, moderators: list[Account], account: Account, contents: Contents
) -> None:
    crashed = open_store()
    with cut_off(server, 2, is_lost=False):  # after the account was written
        await crashed.apply(account.user_id, AssignRole(Role.MODERATOR), a_cause(account))
        await crashed.finish()
    assert contents.index() == ids(*moderators)
    await open_store().sweep()
    assert contents.index() == contents.moderators() == ids(*moderators, account)
