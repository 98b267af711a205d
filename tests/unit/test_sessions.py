"""Refresh tokens and the end of sessions."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus
from killrvideo_grpc.domain.changes import REUSE_INTERVAL
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    RefreshTokenExpired,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    TooManyAttempts,
)
from killrvideo_grpc.service.sessions import Login
from killrvideo_grpc.service.throttle import Limits
from tests.support import concurrent_changes
from tests.support.concurrent_changes import SPOILS_REFRESH, Step
from tests.support.use_cases import NO_LIMITS, ORIGIN, UseCases

pytestmark = pytest.mark.anyio


def age(use_cases: UseCases, account: Account, by: timedelta) -> None:
    """Move all dates of the account's sessions into the past."""
    sessions = use_cases.store.database.accounts[account.user_id].sessions
    older = {
        key: replace(each, created_date=each.created_date - by, refreshed_date=each.refreshed_date - by)
        for key, each in sessions.items()
    }
    use_cases.change(account, sessions=older)


async def refresh(use_cases: UseCases, token: str) -> Login:
    return await use_cases.sessions.refresh(token, ORIGIN)


async def test_a_refresh_gives_a_successor_and_a_new_access_token(
    use_cases: UseCases, account: Account, login: Login
) -> None:
    age(use_cases, account, timedelta(days=1))
    following = await refresh(use_cases, login.refresh_token)
    assert following.refresh_token != login.refresh_token
    assert following.refresh_expires_at >= login.refresh_expires_at
    first, second = [await use_cases.caller(each) for each in (login, following)]
    assert first.session_id == second.session_id
    assert second.account.sessions[second.session_id].generation == 2


async def test_refreshes_at_once_have_one_successor(use_cases: UseCases, login: Login) -> None:
    logins = await asyncio.gather(*(refresh(use_cases, login.refresh_token) for _ in range(16)))
    assert len({each.refresh_token for each in logins}) == 1


async def test_the_previous_token_gets_the_same_successor_for_a_while(
    use_cases: UseCases, account: Account, login: Login
) -> None:
    following = await refresh(use_cases, login.refresh_token)
    age(use_cases, account, REUSE_INTERVAL - timedelta(minutes=1))
    assert (await refresh(use_cases, login.refresh_token)).refresh_token == following.refresh_token
    age(use_cases, account, timedelta(minutes=1, milliseconds=1))
    with pytest.raises(RefreshTokenReused):
        await refresh(use_cases, login.refresh_token)
    with pytest.raises(SessionEnded):
        await use_cases.caller(following)
    with pytest.raises(RefreshTokenInvalid):
        await refresh(use_cases, following.refresh_token)
    event = use_cases.events(account)[-1]
    assert (event.action, event.actor) == ("refresh_token_reused", str(account.user_id))


@pytest.mark.parametrize("step", SPOILS_REFRESH)
async def test_what_spoils_a_refresh_under_way(use_cases: UseCases, account: Account, login: Login, step: Step) -> None:
    use_cases.store.interference = lambda: step(use_cases.store, login.account)
    spoiled = {"REFRESH_TOKEN_INVALID": RefreshTokenInvalid, "REFRESH_TOKEN_REUSED": RefreshTokenReused}
    with pytest.raises(spoiled[SPOILS_REFRESH[step]]):
        await refresh(use_cases, login.refresh_token)


async def test_two_tabs_that_refresh_have_one_successor(use_cases: UseCases, login: Login) -> None:
    use_cases.store.interference = lambda: concurrent_changes.refresh(use_cases.store, login.account)
    successors = {(await refresh(use_cases, login.refresh_token)).refresh_token for _ in range(2)}
    assert len(successors) == 1


async def test_a_session_ends_when_it_is_not_refreshed(use_cases: UseCases, account: Account, login: Login) -> None:
    age(use_cases, account, timedelta(days=30))
    with pytest.raises(RefreshTokenExpired):
        await refresh(use_cases, login.refresh_token)


async def test_a_session_ends_after_its_total_lifetime(use_cases: UseCases, account: Account, login: Login) -> None:
    for _ in range(4):
        age(use_cases, account, timedelta(days=20))
        login = await refresh(use_cases, login.refresh_token)
    (session,) = login.account.sessions.values()
    assert login.refresh_expires_at == session.created_date + timedelta(days=90)
    age(use_cases, account, timedelta(days=10))
    with pytest.raises(RefreshTokenExpired):
        await refresh(use_cases, login.refresh_token)


async def test_a_suspended_account_cannot_refresh(use_cases: UseCases, account: Account, login: Login) -> None:
    use_cases.change(account, status=AccountStatus.SUSPENDED)
    with pytest.raises(AccountSuspended):
        await refresh(use_cases, login.refresh_token)
    use_cases.change(account, status=AccountStatus.ACTIVE)
    assert await refresh(use_cases, login.refresh_token)


async def test_sessions_are_listed_newest_first_without_expired_ones(use_cases: UseCases, account: Account) -> None:
    await use_cases.log_in(account)
    age(use_cases, account, timedelta(days=30))
    callers = []
    for _ in range(3):
        age(use_cases, account, timedelta(minutes=1))
        callers.append(await use_cases.caller(await use_cases.log_in(account)))
    listed = use_cases.sessions.unexpired(callers[-1].account)
    assert [session.session_id for session in listed] == [caller.session_id for caller in reversed(callers)]


async def test_logging_out_ends_one_session_or_all(use_cases: UseCases, account: Account) -> None:
    logins = [await use_cases.log_in(account) for _ in range(4)]
    first, second, third, _ = [await use_cases.caller(login) for login in logins]
    await use_cases.sessions.logout(first, all_sessions=False, client=ORIGIN)
    await use_cases.sessions.end(second, third.session_id, ORIGIN)
    await use_cases.sessions.end(second, third.session_id, ORIGIN)
    for login in (logins[0], logins[2]):
        with pytest.raises(SessionEnded):
            await use_cases.caller(login)
    caller = await use_cases.caller(logins[1])
    assert len(caller.account.sessions) == 2
    await use_cases.sessions.logout(caller, all_sessions=True, client=ORIGIN)
    with pytest.raises(SessionEnded):
        await use_cases.caller(logins[3])
    assert [event.action for event in use_cases.events(account)] == ["registered", *["sessions_ended"] * 3]


async def test_nobody_ends_the_sessions_of_others(use_cases: UseCases, login: Login) -> None:
    other = await use_cases.register()
    caller = await use_cases.caller(await use_cases.log_in(other))
    await use_cases.sessions.end(caller, (await use_cases.caller(login)).session_id, ORIGIN)
    assert await use_cases.caller(login)


async def test_tokens_that_were_not_issued_are_limited_per_source() -> None:
    use_cases = UseCases(replace(NO_LIMITS, source=3))
    account = await use_cases.register()
    login = await use_cases.log_in(account)
    for _ in range(3):
        with pytest.raises(RefreshTokenInvalid):
            await refresh(use_cases, "forged")
    with pytest.raises(TooManyAttempts):
        await refresh(use_cases, "forged")
    assert await refresh(use_cases, login.refresh_token)


async def test_an_app_that_keeps_an_old_token_locks_nobody_out() -> None:
    use_cases = UseCases(Limits(account_and_source=3, source=3, account=0, registrations=0))
    account = await use_cases.register()
    old = await use_cases.log_in(account)
    await use_cases.sessions.logout(await use_cases.caller(old), all_sessions=False, client=ORIGIN)
    for _ in range(10):
        with pytest.raises(RefreshTokenInvalid):
            await refresh(use_cases, old.refresh_token)
    live = await use_cases.log_in(account)
    assert await refresh(use_cases, live.refresh_token)
    other = await use_cases.register()
    assert await refresh(use_cases, (await use_cases.log_in(other)).refresh_token)
