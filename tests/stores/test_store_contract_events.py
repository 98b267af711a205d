"""What every AccountStore promises of the audit trail."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, now
from killrvideo_grpc.domain.changes import AssignRole, Change, Delete, EndSessions, RevokeRole, SetStatus
from killrvideo_grpc.domain.events import Action, Event
from killrvideo_grpc.domain.ports import AccountStore
from tests.stores.harness import Harness
from tests.support.accounts import HASH, a_cause, a_new_password, a_session, an_account, opening

pytestmark = pytest.mark.anyio


async def events(store: AccountStore, user_id: UUID | None, size: int = 20) -> list[Event]:
    found, start = list[Event](), ""
    while True:
        page = await store.events(user_id, size, start)
        assert len(page.items) <= size
        found += page.items
        if not (start := page.next):
            return found


async def test_the_events_of_an_account_are_complete_at_once(store: AccountStore) -> None:
    account = an_account()
    await store.register(account, HASH, cause := a_cause(account, request_id="r-1"))
    first = cause.registration(account)
    assert await events(store, account.user_id) == [first]
    second = a_cause(account, reason="because", actor="cli:ann", at=cause.at + timedelta(seconds=1))
    await store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), second)
    latest, *others = await events(store, account.user_id)
    assert others == [first]
    assert (latest.event_id, latest.at, latest.actor, latest.reason) == (
        *(second.event_id, second.at, second.actor),
        "because",
    )
    assert (latest.before, latest.after) == ("active", "suspended")


CHANGES: list[tuple[Callable[[Account], Change], str, str]] = [
    (lambda account: AssignRole(Role.CREATOR), "viewer", "viewer,creator"),
    (lambda account: RevokeRole(Role.VIEWER), "viewer", ""),
    (lambda account: SetStatus(AccountStatus.SUSPENDED), "active", "suspended"),
    (a_new_password, "", ""),
]


@pytest.mark.parametrize(("change", "before", "after"), CHANGES)
async def test_a_cause_tells_what_was_before_and_after(
    store: AccountStore, account: Account, change: Callable[[Account], Change], before: str, after: str
) -> None:
    await store.apply(account.user_id, change(account), event := a_cause(account))
    latest = (await events(store, account.user_id))[0]
    assert (latest.event_id, latest.before, latest.after) == (event.event_id, before, after)


async def test_a_cause_tells_which_sessions_ended(store: AccountStore, account: Account) -> None:
    sessions = [a_session() for _ in range(2)]
    for session in sessions:
        account = await store.apply(account.user_id, opening(account, session), a_cause(account))
    ids = [session.session_id for session in sessions]
    await store.apply(account.user_id, EndSessions(frozenset({ids[0]})), a_cause(account))
    # `account` was read before the first session ended.
    await store.apply(account.user_id, EndSessions(frozenset(ids)), a_cause(account))
    assert [event.before for event in await events(store, account.user_id)][:2] == [ids[1], ids[0]]


@pytest.mark.parametrize(
    ("change", "undo", "actions"),
    [
        (AssignRole(Role.CREATOR), RevokeRole(Role.CREATOR), ["role_revoked", "role_assigned"]),
        (SetStatus(AccountStatus.SUSPENDED), SetStatus(AccountStatus.ACTIVE), ["reinstated", "suspended"]),
    ],
)
async def test_of_many_equal_changes_at_once_one_is_recorded(
    harness: Harness, account: Account, change: Change, undo: Change, actions: list[str]
) -> None:
    stores = [harness.open() for _ in range(2)]
    for wanted in (change, undo):
        outcomes = await asyncio.gather(
            *(store.apply(account.user_id, wanted, a_cause(account)) for store in stores * 2)
        )
        assert len({(outcome.roles, outcome.status) for outcome in outcomes}) == 1
    for store in stores:
        await store.close()
    store = harness.open()
    await store.sweep()
    recorded = [event.action for event in await events(store, account.user_id)]
    assert recorded == [*actions, Action.REGISTERED]
    await store.close()


async def test_concurrent_changes_tell_what_each_of_them_changed(harness: Harness, account: Account) -> None:
    stores = [harness.open() for _ in range(2)]
    await asyncio.gather(
        stores[0].apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account)),
        stores[1].apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), a_cause(account)),
    )
    # `account` was read before it became a creator.
    await stores[0].apply(account.user_id, RevokeRole(Role.VIEWER), a_cause(account))
    for store in stores:
        await store.close()
    store = harness.open()
    latest = (await events(store, account.user_id))[0]
    assert (latest.before, latest.after) == ("viewer,creator", "creator")
    await store.close()


async def test_changes_are_listed_in_their_order(store: AccountStore, account: Account) -> None:
    """Calls are dated before they wait for each other, so one that goes first can have a later date."""
    at = now()
    changes: list[Change] = [AssignRole(Role.CREATOR), RevokeRole(Role.VIEWER), RevokeRole(Role.CREATOR)]
    causes = [a_cause(account, at=at + timedelta(seconds=seconds)) for seconds in (5, 0, 0)]
    for change, cause in zip(changes, causes, strict=True):
        await store.apply(account.user_id, change, cause)
    listed = (await events(store, account.user_id))[:3]
    assert [event.event_id for event in listed] == [cause.event_id for cause in reversed(causes)]
    assert [event.before for event in listed] == ["creator", "viewer,creator", "viewer"]


async def test_a_wrong_clock_does_not_date_later_changes(store: AccountStore, account: Account) -> None:
    at = now()
    await store.apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account, at=at + timedelta(days=1)))
    await store.apply(account.user_id, RevokeRole(Role.CREATOR), a_cause(account, at=at))
    assert [event.at for event in (await events(store, account.user_id))[:2]] == [at + timedelta(days=1), at]


async def test_pages_are_newest_first_and_complete(harness: Harness) -> None:
    writer, account, at = harness.open(), an_account(), now()
    await writer.register(account, HASH, a_cause(account, at=at - timedelta(days=40)))
    # Four events per timestamp, so that some pages end between events with the same one.
    made = [a_cause(account, at=at - timedelta(hours=2 * (number // 4))) for number in range(12)]
    for number, event in enumerate(made):
        await writer.apply(account.user_id, (AssignRole if number % 2 == 0 else RevokeRole)(Role.CREATOR), event)
    await writer.close()
    store = harness.open()
    await store.sweep()
    for user_id, size in ((account.user_id, 1), (account.user_id, 3), (account.user_id, 50), (None, 7), (None, 100)):
        found = [event for event in await events(store, user_id, size) if event.account == account.user_id]
        assert [event.at for event in found] == sorted((event.at for event in found), reverse=True)
        assert len(found) == 13
        assert {event.event_id for event in found} >= {event.event_id for event in made}
    await store.close()


async def test_pages_stay_as_they_are_when_newer_events_come(store: AccountStore, account: Account) -> None:
    at = now()
    for number in range(6):
        change = AssignRole(Role.CREATOR) if number % 2 == 0 else RevokeRole(Role.CREATOR)
        event = a_cause(account, at=at + timedelta(seconds=number))
        await store.apply(account.user_id, change, event)
    before = await events(store, account.user_id)
    page = await store.events(account.user_id, 3)
    newer = a_cause(account, at=at + timedelta(seconds=60))
    await store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), newer)
    rest = await store.events(account.user_id, 50, page.next)
    assert [*page.items, *rest.items] == before


async def test_the_events_of_a_deleted_account_stay(harness: Harness) -> None:
    store, account = harness.open(), an_account(first_name="Plantedname")
    await store.register(account, HASH, a_cause(account))
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    assert [event.action for event in await events(store, account.user_id)] == [Action.DELETED, Action.REGISTERED]
    assert "Plantedname" not in repr(await events(store, account.user_id))
    assert account.email not in repr(await events(store, account.user_id))
    await store.close()


async def test_an_unknown_account_has_no_events(store: AccountStore) -> None:
    assert await events(store, an_account().user_id) == []
