"""What every AccountStore promises of sessions and of the passwords that they were opened with."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Session
from killrvideo_grpc.domain.changes import REUSE_INTERVAL, EndSessions, RehashPassword, SetStatus
from killrvideo_grpc.domain.errors import InvalidCredentials, RefreshTokenInvalid
from killrvideo_grpc.domain.ports import AccountStore
from tests.stores.harness import Harness
from tests.support.accounts import HASH, LIFETIMES, OTHER_HASH, a_cause, a_new_password, a_session, opening, refreshing

pytestmark = pytest.mark.anyio


@pytest.fixture
async def session(store: AccountStore, account: Account) -> Session:
    """An open session of `account`."""
    session = a_session()
    await store.apply(account.user_id, opening(account, session), a_cause(account))
    return session


async def test_a_login_opens_a_session(store: AccountStore, account: Account) -> None:
    at = account.created_date + timedelta(days=1, milliseconds=1)
    session = a_session(created_date=at, refreshed_date=at, user_agent="Mozilla/5.0 (שלום)")
    opened = await store.apply(account.user_id, opening(account, session), a_cause(account))
    assert opened == replace(account, sessions={session.session_id: session}, last_login_date=at)
    assert await store.get(account.user_id) == opened
    assert await store.find_credentials(account.email) == Credentials(opened, HASH)


async def test_a_login_beyond_the_limit_replaces_the_least_recently_used_session(
    store: AccountStore, account: Account, session: Session
) -> None:
    at = session.created_date
    idle, *others = [a_session(created_date=at, refreshed_date=at + timedelta(minutes=n)) for n in range(1, 20)]
    for other in (idle, *others):
        await store.apply(account.user_id, opening(account, other), a_cause(account))
    # The oldest session was used last.
    used = replace(session, generation=2, refreshed_date=at + timedelta(hours=1))
    await store.apply(account.user_id, refreshing(session, used.refreshed_date), a_cause(account))
    new, cause = a_session(), a_cause(account)
    opened = await store.apply(account.user_id, opening(account, new), cause)
    assert opened.sessions == _by_id(used, *others, new)
    assert await store.get(account.user_id) == opened
    (newest, *_) = (await store.events(account.user_id, 1)).items
    assert (newest.action, newest.before, newest.event_id) == ("session_replaced", idle.session_id, cause.event_id)


async def test_a_login_removes_expired_sessions(store: AccountStore, account: Account) -> None:
    at = account.created_date - LIFETIMES.idle
    expired, cause = a_session(created_date=at, refreshed_date=at), a_cause(account)
    await store.apply(account.user_id, opening(account, expired), a_cause(account))
    new = a_session()
    opened = await store.apply(account.user_id, opening(account, new), cause)
    assert opened.sessions == _by_id(new)
    assert cause.event_id not in {event.event_id for event in (await store.events(account.user_id, 10)).items}


async def test_a_login_remembers_its_source(store: AccountStore, account: Account) -> None:
    login = opening(account, source="0123abcd")
    opened = await store.apply(account.user_id, login, a_cause(account))
    assert opened.sources == {"0123abcd": login.session.created_date}
    assert await store.get(account.user_id) == opened


async def test_logins_at_once_all_open_their_sessions(stores: list[AccountStore], account: Account) -> None:
    sessions = [a_session() for _ in range(8)]
    await asyncio.gather(
        *(
            stores[n % 4].apply(account.user_id, opening(account, each), a_cause(account))
            for n, each in enumerate(sessions)
        )
    )
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == _by_id(*sessions)


async def test_a_refresh_raises_the_generation(store: AccountStore, account: Account, session: Session) -> None:
    other = a_session()
    await store.apply(account.user_id, opening(account, other), a_cause(account))
    at = session.created_date + timedelta(minutes=30)
    refreshed = await store.apply(account.user_id, refreshing(session, at), a_cause(account))
    assert refreshed.sessions == _by_id(replace(session, generation=2, refreshed_date=at), other)
    assert await store.get(account.user_id) == refreshed


async def test_many_refreshes_with_one_token_agree(
    stores: list[AccountStore], account: Account, session: Session
) -> None:
    at = session.created_date + timedelta(minutes=30)
    accounts = await asyncio.gather(
        *(stores[n % 4].apply(account.user_id, refreshing(session, at), a_cause(account)) for n in range(8))
    )
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == _by_id(replace(session, generation=2, refreshed_date=at))
    assert {each.sessions[session.session_id].generation for each in accounts} == {2}


async def test_a_token_that_was_replaced_long_ago_ends_the_session(
    store: AccountStore, account: Account, session: Session
) -> None:
    at = session.created_date
    await store.apply(account.user_id, refreshing(session, at), a_cause(account))
    still = await store.apply(account.user_id, refreshing(session, at + REUSE_INTERVAL), a_cause(account))
    assert still.sessions[session.session_id].generation == 2
    cause = a_cause(account)
    late = at + REUSE_INTERVAL + timedelta(milliseconds=1)
    ended = await store.apply(account.user_id, refreshing(session, late), cause)
    assert ended.sessions == {}
    (newest, *_) = (await store.events(account.user_id, 1)).items
    assert (newest.action, newest.before, newest.event_id) == (
        "refresh_token_reused",
        session.session_id,
        cause.event_id,
    )


async def test_an_ended_session_is_gone(store: AccountStore, account: Account, session: Session) -> None:
    others = [a_session() for _ in range(3)]
    for other in others:
        await store.apply(account.user_id, opening(account, other), a_cause(account))
    ended = frozenset({session.session_id, others[0].session_id, uuid4().hex})
    for _ in range(2):  # the second time there is nothing to end
        changed = await store.apply(account.user_id, EndSessions(ended), a_cause(account))
        assert changed.sessions == _by_id(*others[1:])
    assert await store.get(account.user_id) == changed


async def test_a_refresh_brings_no_session_back(stores: list[AccountStore], account: Account, session: Session) -> None:
    await stores[0].apply(account.user_id, EndSessions(frozenset({session.session_id})), a_cause(account))
    with pytest.raises(RefreshTokenInvalid):
        await stores[1].apply(account.user_id, refreshing(session), a_cause(account))
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == {}


async def test_all_sessions_can_be_ended(store: AccountStore, account: Account, session: Session) -> None:
    other = a_session()
    await store.apply(account.user_id, opening(account, other), a_cause(account))
    cause = a_cause(account)
    # What the caller has seen is out of date.
    ended = await store.apply(account.user_id, EndSessions(None), cause, seen=account)
    assert ended.sessions == {}
    (newest, *_) = (await store.events(account.user_id, 1)).items
    assert newest.before == ",".join(sorted([session.session_id, other.session_id]))


async def test_a_new_password_ends_all_sessions_but_its_own(
    store: AccountStore, account: Account, session: Session
) -> None:
    change = a_new_password(account)
    changed = await store.apply(account.user_id, change, a_cause(account))
    assert changed.credential_id == change.new_credential_id
    assert changed.sessions == _by_id(change.session)
    found = await store.find_credentials(account.email)
    assert found
    assert found.password_hash == OTHER_HASH
    assert found.account.sessions == changed.sessions


async def test_a_login_with_an_old_password_fails(store: AccountStore, account: Account) -> None:
    """It checks the old password before the change, and opens its session after."""
    change = a_new_password(account)
    await store.apply(account.user_id, change, a_cause(account))
    with pytest.raises(InvalidCredentials):
        await store.apply(account.user_id, opening(account), a_cause(account), seen=account)
    found = await store.get(account.user_id)
    assert found
    assert found.sessions == _by_id(change.session)


async def test_a_login_to_a_suspended_account_fails(store: AccountStore, account: Account) -> None:
    await store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), a_cause(account))
    with pytest.raises(InvalidCredentials):
        await store.apply(account.user_id, opening(account), a_cause(account), seen=account)


async def test_no_login_outlives_a_new_password(stores: list[AccountStore], account: Account) -> None:
    change, logins = a_new_password(account), [opening(account) for _ in range(8)]
    *outcomes, _ = await asyncio.gather(
        *(stores[n % 3].apply(account.user_id, login, a_cause(account)) for n, login in enumerate(logins)),
        stores[3].apply(account.user_id, change, a_cause(account)),
        return_exceptions=True,
    )
    assert all(isinstance(outcome, Account | InvalidCredentials) for outcome in outcomes)
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == _by_id(change.session)


async def test_an_old_hash_is_not_renewed_over_a_new_one(store: AccountStore, account: Account) -> None:
    await store.apply(account.user_id, a_new_password(account), a_cause(account))
    await store.apply(account.user_id, RehashPassword(account.credential_id, HASH), a_cause(account))
    found = await store.find_credentials(account.email)
    assert found
    assert found.password_hash == OTHER_HASH


async def test_of_many_new_passwords_at_once_one_is_accepted(harness: Harness, account: Account) -> None:
    stores = [harness.open() for _ in range(4)]
    changes = [a_new_password(account, f"$2b$06$another{number}") for number in range(8)]
    events = [a_cause(account) for _ in changes]
    outcomes = await asyncio.gather(
        *(stores[n % 4].apply(account.user_id, change, events[n]) for n, change in enumerate(changes)),
        return_exceptions=True,
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
    await store.apply(account.user_id, accepted, a_cause(account))
    late, event = a_new_password(account, "$2b$06$late"), a_cause(account)
    for _ in range(2):
        with pytest.raises(InvalidCredentials):
            await store.apply(account.user_id, late, event)
    found = await store.find_credentials(account.email)
    assert found
    assert found.password_hash == OTHER_HASH
    assert found.account.sessions == _by_id(accepted.session)
    newest = a_new_password(found.account, "$2b$06$newest")
    assert (await store.apply(found.account.user_id, newest, a_cause(found.account))).sessions == _by_id(newest.session)


async def test_a_password_can_be_changed_again_and_again(store: AccountStore, account: Account) -> None:
    for number in range(5):
        change = a_new_password(account, f"$2b$06$number{number}")
        account = await store.apply(account.user_id, change, a_cause(account))
        found = await store.get_credentials(account.user_id)
        assert found
        assert found.password_hash == change.password_hash


def _by_id(*sessions: Session) -> dict[str, Session]:
    return {session.session_id: session for session in sessions}
