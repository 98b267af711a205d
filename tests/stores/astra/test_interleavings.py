"""Concurrent changes, each stopped at a chosen request, so that every run interleaves them in the same order."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.changes import Action, AssignRole, EndSessions, OpenSession, Rename, RevokeRole, SetStatus
from killrvideo_grpc.domain.errors import LastModerator, StoreUnavailable, UserNotFound
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.moderator_index import GUARD
from killrvideo_grpc.stores.astra.store import AstraStore
from tests.stores.astra.conftest import OpenStore
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import cut_off
from tests.support.accounts import HASH, a_new_password, a_session, an_account, an_event
from tests.support.fake_data_api import FakeDataApi, Hang, Request

pytestmark = pytest.mark.anyio


@pytest.fixture
async def account(store: AstraStore) -> Account:
    """A registered account, with all background work done."""
    account = an_account()
    await store.register(account, HASH, an_event(account))
    await store._background.finish()
    return account


def adds_to_guard(account: Account) -> Callable[[Request], bool]:
    """Returns whether a request adds the account to the guard."""

    def matches(request: Request) -> bool:
        arguments: dict[str, Any] = request.arguments
        added = arguments.get("update", {}).get("$set", {})
        return arguments.get("filter") == {"_id": GUARD} and f"ids.{account.user_id}" in added

    return matches


def is_clearing(request: Request) -> bool:
    arguments: dict[str, Any] = request.arguments
    return request.command == "findOneAndUpdate" and "$inc" not in arguments["update"]


async def test_a_change_made_while_an_older_one_is_cleared_stays_pending(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    writer, other, survivor = open_store(), open_store(), open_store()
    first, second = an_event(account), an_event(account, Action.ROLE_ASSIGNED)
    server.forget_requests()
    clearing = server.fail(Hang(), times=1, where=is_clearing)
    await writer.apply(account, Rename("Bea", None), first)
    await asyncio.to_thread(server.wait_until, lambda: any(map(is_clearing, server.requests)))
    with cut_off(server, 1, is_lost=False):
        await other.apply(account, AssignRole(Role.CREATOR), second)
        await other._background.finish()
    # Now both have crashed: the other one after its change, the writer right after clearing its own change.
    with cut_off(server, 0, is_lost=False):
        clearing.clear()
        await writer._background.finish()
    await survivor.sweep()
    assert (contents.has_event(first), contents.has_event(second)) == (True, True)
    assert contents.pending() == []


async def test_a_repeated_request_does_not_bring_back_what_was_undone(open_store: OpenStore, account: Account) -> None:
    store, other = open_store(), open_store()
    assigned, revoked = an_event(account, Action.ROLE_ASSIGNED), an_event(account, Action.ROLE_REVOKED)
    await store.apply(account, AssignRole(Role.CREATOR), assigned)
    await other.apply(account, RevokeRole(Role.CREATOR), revoked)
    # The first request is sent again, as after a lost answer.
    entry = f"{assigned.event_id} +creator"
    await store._api.update_document(document_id(account.user_id), {"$push": {"history": entry}}, image="after")
    final = await other.get(account.user_id)
    assert final
    assert final.roles == {Role.VIEWER}
    told = {event.event_id: (event.before, event.after) for event in (await other.events(account.user_id, 9)).items}
    assert told[assigned.event_id] == ("viewer", "viewer,creator")
    assert told[revoked.event_id] == ("viewer,creator", "viewer")


async def test_a_late_addition_to_the_guard_lets_no_last_moderator_go(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    store, other = open_store(), open_store()
    last = an_account()
    await other.register(last, HASH, an_event(last))
    last = await other.apply(last, AssignRole(Role.MODERATOR))
    counting = server.fail(Hang(), times=1, where=adds_to_guard(account))
    promoting = asyncio.create_task(store.apply(account, AssignRole(Role.MODERATOR)))
    await asyncio.to_thread(server.wait_for, where=adds_to_guard(account))
    promoting.cancel()
    await asyncio.wait([promoting])
    promoted = await other.get(account.user_id)
    assert promoted
    await other.apply(promoted, RevokeRole(Role.MODERATOR))
    counting.clear()  # only now is it carried out
    await asyncio.to_thread(server.wait_until, lambda: str(account.user_id) in contents.guard())
    with pytest.raises(LastModerator):
        await other.delete(last, an_event(last, Action.DELETED))
    with pytest.raises(LastModerator):
        await other.apply(last, SetStatus(AccountStatus.SUSPENDED))
    assert contents.moderators() == {str(last.user_id)}
    assert str(last.user_id) in contents.guard()
    await other.apply(last, RevokeRole(Role.MODERATOR, force=True))


async def test_changes_after_a_deletion_are_not_recorded(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    deleter, second, third = open_store(), open_store(), open_store()
    events = [an_event(account, Action.ROLE_ASSIGNED), an_event(account, Action.SUSPENDED)]
    slow = server.fail(Hang(), command="deleteOne", times=1)
    deleting = asyncio.create_task(deleter.delete(account, deletion := an_event(account, Action.DELETED)))
    await asyncio.to_thread(server.wait_for, command="deleteOne")
    server.forget_requests()
    slower = server.fail(Hang(), command="deleteOne", times=1)
    changing = asyncio.create_task(second.apply(account, AssignRole(Role.CREATOR), events[0]))
    await asyncio.to_thread(server.wait_for, command="deleteOne")
    with pytest.raises(UserNotFound):
        await third.apply(account, SetStatus(AccountStatus.SUSPENDED), events[1])
    slower.clear()
    slow.clear()
    with pytest.raises(UserNotFound):
        await changing
    await deleting
    for store in (deleter, second, third):
        await store._background.finish()
    assert contents.has_event(deletion)
    assert not any(contents.has_event(event) for event in events)


async def test_a_sweep_does_not_record_a_change_after_a_deletion(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    deleter, writer, survivor = open_store(), open_store(), open_store()
    deletion, event = an_event(account, Action.DELETED), an_event(account, Action.ROLE_ASSIGNED)
    with cut_off(server, 2, is_lost=False):
        await deleter.delete(account, deletion)
    with cut_off(server, 1, is_lost=False), pytest.raises((UserNotFound, StoreUnavailable)):
        await writer.apply(account, AssignRole(Role.CREATOR), event)
    await survivor.sweep()
    assert (contents.has_event(deletion), contents.has_event(event)) == (True, False)


async def test_a_logout_from_a_session_that_a_new_password_has_ended_is_not_recorded(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    store, other = open_store(), open_store()
    session = a_session(account)
    account = await store.apply(account, OpenSession(session))
    await store._background.finish()
    changed, event = an_event(account, Action.PASSWORD_CHANGED), an_event(account, Action.SESSIONS_ENDED)
    with cut_off(server, 1, is_lost=False):
        await store.apply(account, a_new_password(account), changed)
        await store._background.finish()
    await other.apply(account, EndSessions(frozenset({session.session_id})), event)
    await other._background.finish()
    assert (contents.has_event(changed), contents.has_event(event)) == (True, False)


async def test_a_logout_is_recorded_even_if_a_login_removes_the_session_too(
    server: FakeDataApi, open_store: OpenStore, account: Account, contents: Contents
) -> None:
    store, other = open_store(), open_store()
    session, event = a_session(account), an_event(account, Action.SESSIONS_ENDED)
    account = await store.apply(account, OpenSession(session))
    await store._background.finish()
    with cut_off(server, 1, is_lost=False):
        await store.apply(account, EndSessions(frozenset({session.session_id})), event)
        await store._background.finish()
    # The login read the account before the logout and removes this session because it is the oldest.
    await other.apply(account, OpenSession(a_session(account), frozenset({session.session_id})))
    await other._background.finish()
    await other.sweep()
    assert contents.has_event(event)
