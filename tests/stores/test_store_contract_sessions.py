"""What every AccountStore promises of sessions and of the passwords that they were opened with."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, Credentials, Session
from killrvideo_grpc.domain.changes import Action, EndSessions, OpenSession, RefreshSession, RenewHash
from killrvideo_grpc.domain.errors import InvalidCredentials
from killrvideo_grpc.domain.ports import AccountStore
from tests.stores.harness import Harness
from tests.support.accounts import HASH, OTHER_HASH, a_new_password, a_session, an_event

pytestmark = pytest.mark.anyio


@pytest.fixture
async def session(store: AccountStore, account: Account) -> Session:
    """An open session of `account`."""
    session = a_session(account)
    await store.apply(account, OpenSession(session))
    return session


async def test_a_login_opens_a_session(store: AccountStore, account: Account) -> None:
    at = account.created_date + timedelta(days=1, milliseconds=1)
    session = a_session(account, created_date=at, refreshed_date=at, user_agent="Mozilla/5.0 (שלום)")
    opened = await store.apply(account, OpenSession(session))
    assert opened == replace(account, sessions={session.session_id: session}, last_login_date=at)
    assert await store.get(account.user_id) == opened
    assert await store.find_credentials(account.email) == Credentials(opened, HASH)


async def test_a_login_removes_sessions(store: AccountStore, account: Account, session: Session) -> None:
    others = [a_session(account) for _ in range(2)]
    await store.apply(account, OpenSession(others[0]))
    opened = await store.apply(account, OpenSession(others[1], removed=frozenset({session.session_id, uuid4().hex})))
    assert opened.sessions == _by_id(*others)


async def test_logins_at_once_all_open_their_sessions(stores: list[AccountStore], account: Account) -> None:
    sessions = [a_session(account) for _ in range(16)]
    await asyncio.gather(*(stores[n % 4].apply(account, OpenSession(each)) for n, each in enumerate(sessions)))
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == _by_id(*sessions)


async def test_a_refresh_raises_the_generation(store: AccountStore, account: Account, session: Session) -> None:
    other = a_session(account)
    await store.apply(account, OpenSession(other))
    at = session.created_date + timedelta(minutes=30)
    refreshed = await store.apply(account, RefreshSession(session.session_id, 2, at))
    assert refreshed.sessions == _by_id(replace(session, generation=2, refreshed_date=at), other)
    assert await store.get(account.user_id) == refreshed


async def test_a_refresh_never_lowers_the_generation(store: AccountStore, account: Account, session: Session) -> None:
    await store.apply(account, RefreshSession(session.session_id, 3, session.created_date))
    refreshed = await store.apply(account, RefreshSession(session.session_id, 2, session.created_date))
    assert refreshed.sessions == _by_id(replace(session, generation=3))


async def test_of_many_refreshes_at_once_the_highest_generation_stays(
    stores: list[AccountStore], account: Account, session: Session
) -> None:
    at = session.created_date + timedelta(minutes=30)
    await asyncio.gather(
        *(stores[n % 4].apply(account, RefreshSession(session.session_id, 2 + n // 8, at)) for n in range(16))
    )
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == _by_id(replace(session, generation=3, refreshed_date=at))


async def test_an_ended_session_is_gone(store: AccountStore, account: Account, session: Session) -> None:
    others = [a_session(account) for _ in range(3)]
    for other in others:
        await store.apply(account, OpenSession(other))
    ended = frozenset({session.session_id, others[0].session_id, uuid4().hex})
    for _ in range(2):  # the second time there is nothing to end
        changed = await store.apply(account, EndSessions(ended))
        assert changed.sessions == _by_id(*others[1:])
    assert await store.get(account.user_id) == changed


async def test_a_refresh_brings_no_session_back(stores: list[AccountStore], account: Account, session: Session) -> None:
    await stores[0].apply(account, EndSessions(frozenset({session.session_id})))
    changed = await stores[1].apply(account, RefreshSession(session.session_id, 2, session.created_date))
    assert changed.sessions == {}
    assert await stores[0].get(account.user_id) == changed


async def test_a_new_password_ends_all_sessions_but_its_own(
    store: AccountStore, account: Account, session: Session
) -> None:
    change = a_new_password(account)
    changed = await store.apply(account, change)
    assert changed.credential_id == change.session.credential_id
    assert changed.sessions == _by_id(change.session)
    found = await store.find_credentials(account.email)
    assert found
    assert found.password_hash == OTHER_HASH
    assert found.account.sessions == changed.sessions


async def test_a_session_of_an_old_password_is_dead(store: AccountStore, account: Account) -> None:
    """A login checks the old password just before it changes, and opens its session just after."""
    change, late = a_new_password(account), a_session(account)
    await store.apply(account, change)
    changed = await store.apply(account, OpenSession(late))
    assert changed.sessions == _by_id(change.session)
    assert changed.dead_sessions == {late.session_id}
    revived = await store.apply(account, RefreshSession(late.session_id, 2, late.created_date))
    assert revived.sessions == _by_id(change.session)
    new = a_session(changed)
    cleaned = await store.apply(account, OpenSession(new, removed=changed.dead_sessions))
    assert cleaned.sessions == _by_id(change.session, new)
    assert cleaned.dead_sessions == frozenset()


async def test_no_login_outlives_a_new_password(stores: list[AccountStore], account: Account) -> None:
    change, logins = a_new_password(account), [OpenSession(a_session(account)) for _ in range(8)]
    await asyncio.gather(
        *(stores[n % 3].apply(account, login) for n, login in enumerate(logins)), stores[3].apply(account, change)
    )
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == _by_id(change.session)


async def test_an_old_hash_is_not_renewed_over_a_new_one(store: AccountStore, account: Account) -> None:
    await store.apply(account, a_new_password(account))
    await store.apply(account, RenewHash(account.credential_id, HASH))
    found = await store.find_credentials(account.email)
    assert found
    assert found.password_hash == OTHER_HASH


async def test_of_many_new_passwords_at_once_one_is_accepted(harness: Harness, account: Account) -> None:
    stores = [harness.open() for _ in range(4)]
    changes = [a_new_password(account, f"$2b$06$another{number}") for number in range(8)]
    events = [an_event(account, Action.PASSWORD_CHANGED) for _ in changes]
    outcomes = await asyncio.gather(
        *(stores[n % 4].apply(account, change, events[n]) for n, change in enumerate(changes)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(InvalidCredentials) == 7
    (accepted,) = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Account)]
    found = await stores[accepted % 4].find_credentials(account.email)
    assert found
    assert found.password_hash == changes[accepted].password_hash
    assert found.account.sessions == _by_id(changes[accepted].session)
    for store in stores:
        await store.close()
    text = harness.raw_text()
    assert [str(event.event_id) in text for event in events] == [n == accepted for n in range(8)]
    assert [change.password_hash in text for change in changes] == [n == accepted for n in range(8)]


async def test_a_new_password_needs_the_current_one(store: AccountStore, account: Account) -> None:
    """A call that checked the previous password must fail, however long ago that password was replaced."""
    accepted = a_new_password(account)
    await store.apply(account, accepted)
    late, event = a_new_password(account, "$2b$06$late"), an_event(account, Action.PASSWORD_CHANGED)
    for _ in range(2):
        with pytest.raises(InvalidCredentials):
            await store.apply(account, late, event)
    found = await store.find_credentials(account.email)
    assert found
    assert found.password_hash == OTHER_HASH
    assert found.account.sessions == _by_id(accepted.session)
    newest = a_new_password(found.account, "$2b$06$newest")
    assert (await store.apply(found.account, newest)).sessions == _by_id(newest.session)


async def test_a_password_can_be_changed_again_and_again(store: AccountStore, account: Account) -> None:
    for number in range(5):
        change = a_new_password(account, f"$2b$06$number{number}")
        account = await store.apply(account, change)
        found = await store.get_credentials(account.user_id)
        assert found
        assert found.password_hash == change.password_hash


def _by_id(*sessions: Session) -> dict[str, Session]:
    return {session.session_id: session for session in sessions}
