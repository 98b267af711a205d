"""Changes of the account document: what is sent, conflicts, and answers that are lost or come late."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.changes import AssignRole, Change, Delete, EndSessions, Rename, RevokeRole, SetStatus
from killrvideo_grpc.domain.errors import InvalidCredentials, RefreshTokenInvalid, StoreUnavailable
from killrvideo_grpc.stores.astra.document import RECENT, document_id
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from tests.stores.astra.conftest import OpenStore, sent
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import LOST
from tests.stores.test_store_contract import CHANGES
from tests.support.accounts import HASH, a_cause, a_new_password, a_session, an_account, opening, refreshing
from tests.support.fake_data_api import Close, ErrorAnswer, FakeDataApi, Garbage, Hang, Late, Request
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio

READ, WRITE = (ACCOUNTS, "findOne"), (ACCOUNTS, "updateOne")


def is_write(request: Request) -> bool:
    return request.command == "updateOne" and "revision" in request.arguments["filter"]


def writes(server: FakeDataApi) -> list[dict[str, Any]]:
    """The updates sent by compare-and-set, in order."""
    return [request.arguments["update"] for request in server.requests if is_write(request)]


# What is sent


async def test_a_change_of_an_account_just_read_is_one_request(
    server: FakeDataApi, store: AstraStore, account: Account
) -> None:
    session = a_session()
    opened = await store.apply(account.user_id, opening(account, session), a_cause(account))
    await store.finish()
    seen = await store.get(account.user_id)
    server.forget_requests()
    await store.apply(opened.user_id, refreshing(session), a_cause(account), seen=seen)
    await store.finish()
    assert sent(server) == [WRITE]  # and nothing to project
    seen = await store.get(account.user_id)
    server.forget_requests()
    await store.apply(opened.user_id, EndSessions(None), a_cause(account), seen=seen)
    assert sent(server)[:1] == [WRITE]


async def test_a_login_is_three_requests(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    found = await store.find_credentials(account.email)
    assert found
    await store.apply(account.user_id, opening(account), a_cause(account), seen=found.account)
    assert sent(server)[:3] == [READ, READ, WRITE]


async def test_a_read_is_one_request_without_the_hash(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    await store.get(account.user_id)
    await store.get_many([account.user_id, *(uuid4() for _ in range(99))])
    assert sent(server) == [READ, (ACCOUNTS, "find")]
    assert [request.arguments["projection"] for request in server.requests] == [{"password_hash": False}] * 2


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (Rename("Bea", None), {"firstname", "pending", "row_changed"}),
        (AssignRole(Role.CREATOR), {"roles", "outbox", "last_event", "pending"}),
        (SetStatus(AccountStatus.SUSPENDED), {"status", "outbox", "last_event", "pending", "row_changed"}),
    ],
)
async def test_a_write_sends_only_what_differs(
    server: FakeDataApi, store: AstraStore, account: Account, change: Change, fields: set[str]
) -> None:
    await store.apply(account.user_id, change, a_cause(account))
    update = writes(server)[0]
    assert update["$set"].keys() == fields | {"revision", "recent"}
    assert update.keys() == {"$set"}


@pytest.mark.parametrize(
    "change",
    [
        AssignRole(Role.VIEWER),
        RevokeRole(Role.CREATOR),
        SetStatus(AccountStatus.ACTIVE),
        Rename("Ann", "Lee"),
        EndSessions(None),
    ],
)
async def test_a_change_without_effect_writes_only_a_revision(
    server: FakeDataApi, store: AstraStore, account: Account, change: Change
) -> None:
    assert await store.apply(account.user_id, change, a_cause(account)) == account
    assert [update["$set"].keys() for update in writes(server)] == [{"revision", "recent"}]


UNDONE_BEFORE = [
    (AssignRole(Role.CREATOR), RevokeRole(Role.CREATOR)),
    (AssignRole(Role.MODERATOR), RevokeRole(Role.MODERATOR)),
    (SetStatus(AccountStatus.SUSPENDED), SetStatus(AccountStatus.ACTIVE)),
    (Rename("Late", None), Rename("Ann", None)),
]


@pytest.mark.parametrize(("change", "undo"), UNDONE_BEFORE)
async def test_what_is_undone_before_it_is_written_late_stays_undone(
    server: FakeDataApi, open_store: OpenStore, account: Account, change: Change, undo: Change
) -> None:
    """The change times out, and its opposite is answered without effect."""
    store, other = open_store(), open_store()
    late = server.fail(Late(), where=is_write, times=2)
    with pytest.raises(StoreUnavailable):
        await store.apply(account.user_id, change, a_cause(account))
    assert await other.apply(account.user_id, undo, a_cause(account)) == account
    late.carry_out(server.execute)
    assert await other.get(account.user_id) == account


async def test_what_a_newer_version_stored_is_kept(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    account = await store.apply(account.user_id, opening(account, a_session()), a_cause(account))
    await store.finish()
    newer = {"roles": ["critic", "viewer"], "newer": 1, f"sessions.{next(iter(account.sessions))}.newer": 1}
    update = {"findOneAndUpdate": {"filter": {"_id": document_id(account.user_id)}, "update": {"$set": newer}}}
    server.execute([KEYSPACE, ACCOUNTS], update)
    for change in (AssignRole(Role.CREATOR), refreshing(next(iter(account.sessions.values()))), opening(account)):
        await store.apply(account.user_id, change, a_cause(account))
    document = contents.existing(account)
    assert (document["roles"], document["newer"]) == (["creator", "critic", "viewer"], 1)
    assert document["sessions"][next(iter(account.sessions))]["newer"] == 1


async def test_every_filter_has_one_condition(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    for change in CHANGES:
        with suppress(RefreshTokenInvalid, InvalidCredentials):
            account = await store.apply(account.user_id, change(account), a_cause(account))
    await store.get_many([account.user_id, uuid4()])
    await store.find_credentials(account.email)
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    await store.sweep()
    await store.finish()
    filters = [request.arguments["filter"] for request in server.requests if "filter" in request.arguments]
    assert {tuple(condition) for condition in filters} == {("_id",), ("revision",), ("pending",), ("userid",)}
    assert {request.name for request in server.requests} == {ACCOUNTS, USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY}


# Conflicts


async def test_a_change_is_decided_again_on_the_newer_state(
    server: FakeDataApi, open_store: OpenStore, account: Account
) -> None:
    store, other = open_store(), open_store()
    seen = await store.get(account.user_id)
    await other.apply(account.user_id, a_new_password(account), a_cause(account))
    with pytest.raises(InvalidCredentials):
        await store.apply(account.user_id, opening(account), a_cause(account), seen=seen)
    await other.apply(account.user_id, Rename("Bea", None), a_cause(account))
    renamed = await store.apply(account.user_id, Rename(None, "Ray"), a_cause(account), seen=seen)
    assert (renamed.first_name, renamed.last_name) == ("Bea", "Ray")


async def test_changes_of_one_process_do_not_conflict(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    """Nor with projections, which write after each change."""
    sessions = [a_session() for _ in range(16)]
    with server.fail(Hang(), name=USERS):
        await asyncio.gather(
            *(store.apply(account.user_id, opening(account, session), a_cause(account)) for session in sessions)
        )
        assert len(writes(server)) == 16


async def test_conflicts_are_tried_again(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    conflict = server.fail(ErrorAnswer("FAILED_CONCURRENT_OPERATIONS"), times=5, where=is_write)
    assert (await store.apply(account.user_id, Rename("Bea", None), a_cause(account))).first_name == "Bea"
    assert conflict.hits == 5


async def test_conflicts_without_end_are_unavailable(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    conflict = server.fail(ErrorAnswer("FAILED_CONCURRENT_OPERATIONS"), where=is_write)
    with pytest.raises(StoreUnavailable):
        await store.apply(account.user_id, Rename("Bea", None), a_cause(account))
    assert 10 < conflict.hits < 50


async def test_the_account_that_was_seen_must_be_the_one_that_changes(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    other = an_account()
    await store.register(other, HASH, a_cause(other))
    seen = await store.get(other.user_id)
    renamed = await store.apply(account.user_id, Rename("Bea", None), a_cause(account), seen=seen)
    assert (renamed.user_id, renamed.first_name) == (account.user_id, "Bea")
    assert contents.existing(other)["firstname"] == "Ann"


async def test_a_change_that_waits_takes_what_the_one_before_it_wrote(
    server: FakeDataApi, store: AstraStore, account: Account
) -> None:
    with server.fail(Hang(), name=USERS):
        await asyncio.gather(
            *(store.apply(account.user_id, Rename(f"Ann{n}", None), a_cause(account)) for n in range(8))
        )
    reads = [request for request in server.requests if request.command == "find"]
    assert len(reads) == 1


async def test_what_an_earlier_change_wrote_is_not_taken_for_the_newest_state(
    open_store: OpenStore, account: Account
) -> None:
    store, other = open_store(), open_store()
    lock = store._locks.of(document_id(account.user_id))  # kept, as a traceback can keep it
    await store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), a_cause(account))
    await other.apply(account.user_id, SetStatus(AccountStatus.ACTIVE), a_cause(account))
    assert (await store.apply(account.user_id, opening(account), a_cause(account))).sessions
    assert not lock.locked()


# Lost answers


async def test_a_write_that_matched_and_changed_nothing_may_have_been_done(
    server: FakeDataApi, store: AstraStore, account: Account
) -> None:
    """Not seen on a real Data API. The write is found by its revision."""
    answer = b'{"status": {"matchedCount": 1, "modifiedCount": 0}}'
    server.fail(Garbage(answer), where=is_write, after_write=True, times=1)
    changed = await store.apply(account.user_id, a_new_password(account), a_cause(account))
    assert await store.get(account.user_id) == changed


@pytest.mark.parametrize("fault", [*LOST, ErrorAnswer("FAILED_CONCURRENT_OPERATIONS")], ids=repr)
async def test_a_write_whose_answer_was_lost_is_not_made_again(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents, fault: Any
) -> None:
    """Before its second try, others undo it and write until its revision is nearly forgotten."""
    store, other, cause = open_store(), open_store(), a_cause(account)
    # The second read waits until all of that has happened.
    holding = server.fail(Hang(), command="find", skip=1, times=1)
    server.fail(fault, where=is_write, after_write=True, times=1)
    changing = asyncio.create_task(store.apply(account.user_id, AssignRole(Role.CREATOR), cause))
    await asyncio.to_thread(server.wait_until, lambda: holding.hits == 1)
    await other.apply(account.user_id, RevokeRole(Role.CREATOR), a_cause(account))
    for number in range(5):
        await other.apply(account.user_id, Rename(f"Ann{number}", None), a_cause(account))
    await other.finish()
    holding.clear()
    assert (await changing).roles == {Role.VIEWER, Role.CREATOR}  # as the change left it
    found = await other.get(account.user_id)
    assert found
    assert found.roles == {Role.VIEWER}
    told = [event for event in (await other.events(account.user_id, 50)).items if event.event_id == cause.event_id]
    assert [(event.before, event.after) for event in told] == [("viewer", "viewer,creator")]


async def test_an_outcome_that_can_not_be_found_out_is_unavailable(
    server: FakeDataApi, open_store: OpenStore, account: Account
) -> None:
    store, other = open_store(), open_store()
    holding = server.fail(Hang(), command="find", skip=1, times=1)
    server.fail(Close(), where=is_write, after_write=True, times=1)
    changing = asyncio.create_task(store.apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account)))
    await asyncio.to_thread(server.wait_until, lambda: holding.hits == 1)
    for number in range(RECENT + 1):
        await other.apply(account.user_id, Rename(f"Ann{number}", None), a_cause(account))
    holding.clear()
    with pytest.raises(StoreUnavailable, match="outcome unknown"):
        await changing


# Late answers: the caller has given up, and the write is carried out all the same.

LATE = a_session()
CHANGE_AND_UNDO: list[tuple[Callable[[Account], Change], Callable[[Account], Change]]] = [
    (lambda account: AssignRole(Role.CREATOR), lambda account: RevokeRole(Role.CREATOR)),
    (lambda account: SetStatus(AccountStatus.SUSPENDED), lambda account: SetStatus(AccountStatus.ACTIVE)),
    (lambda account: opening(account, LATE), lambda account: EndSessions(frozenset({LATE.session_id}))),
    (lambda account: Rename("Late", None), lambda account: Rename("Ann", None)),
]


@pytest.mark.parametrize(("change", "undo"), CHANGE_AND_UNDO)
async def test_a_late_write_that_was_tried_again_and_undone_does_nothing(
    server: FakeDataApi,
    store: AstraStore,
    account: Account,
    contents: Contents,
    change: Callable[[Account], Change],
    undo: Callable[[Account], Change],
) -> None:
    late = server.fail(Late(), where=is_write, times=1)
    await store.apply(account.user_id, change(account), cause := a_cause(account))
    undone = await store.apply(account.user_id, undo(account), a_cause(account))
    await store.finish()
    late.carry_out(server.execute)
    found = await store.get(account.user_id)
    assert found == undone
    assert replace(found, last_login_date=None) == account
    assert len([each for each in await _events(store, account) if each == cause.event_id]) < 2


@pytest.mark.parametrize("change", [opening, a_new_password, lambda account: Rename("Late", "Late")])
async def test_a_late_write_after_a_new_password_or_a_deletion_does_nothing(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents, change: Callable[..., Change]
) -> None:
    store, other = open_store(), open_store()
    late = server.fail(Late(), where=is_write, times=2)
    with pytest.raises(StoreUnavailable):
        await store.apply(account.user_id, change(account), a_cause(account))
    changed = await other.apply(account.user_id, a_new_password(account, "$2b$04$newer"), a_cause(account))
    late.carry_out(server.execute)
    assert await other.get(account.user_id) == changed
    await other.finish()
    late = server.fail(Late(), where=is_write, times=2)
    with pytest.raises(StoreUnavailable):
        await store.apply(account.user_id, change(changed), a_cause(account))
    await other.apply(account.user_id, Delete(changed.credential_id), a_cause(account))
    late.carry_out(server.execute)
    assert await other.get(account.user_id) is None
    assert not contents.existing(account).keys() & {"email", "firstname", "sessions"}


async def _events(store: AstraStore, account: Account) -> list[object]:
    return [event.event_id for event in (await store.events(account.user_id, 50)).items]
