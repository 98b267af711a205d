"""Who gets in with an access token: the account in the store decides."""

from datetime import timedelta
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, now
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    NoRolesAssigned,
    RoleRequired,
    ServiceError,
    SessionEnded,
    TokenExpired,
    UserNotFound,
)
from killrvideo_grpc.service.authentication import AccessRule
from killrvideo_grpc.service.sessions import Login
from tests.support.accounts import an_account
from tests.support.use_cases import UseCases

pytestmark = pytest.mark.anyio


async def outcome(use_cases: UseCases, token: str, role: Role = Role.VIEWER) -> type[ServiceError] | None:
    """Return the error of an authentication, or None."""
    try:
        await use_cases.authenticator.authenticate(token, AccessRule(role, None))
    except ServiceError as error:
        return type(error)
    return None


async def test_a_caller_is_the_account_and_session_of_the_token(
    use_cases: UseCases, account: Account, login: Login
) -> None:
    caller = await use_cases.caller(login)
    assert caller.account == await use_cases.store.get(account.user_id)
    assert caller.account.sessions.keys() == {caller.session_id}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
async def test_a_role_suffices_for_those_below(
    use_cases: UseCases, account: Account, login: Login, role: Role, needed: Role
) -> None:
    use_cases.change(account, roles=frozenset({role}))
    ladder = list(Role)
    expected = None if ladder.index(role) >= ladder.index(needed) else RoleRequired
    assert await outcome(use_cases, login.token, needed) is expected


async def test_the_state_of_the_account_decides(use_cases: UseCases, account: Account, login: Login) -> None:
    use_cases.change(account, roles=frozenset())
    assert await outcome(use_cases, login.token) is NoRolesAssigned
    use_cases.change(account, sessions={})
    assert await outcome(use_cases, login.token) is SessionEnded
    use_cases.change(account, status=AccountStatus.SUSPENDED)
    assert await outcome(use_cases, login.token) is AccountSuspended
    del use_cases.store.database.accounts[account.user_id]
    assert await outcome(use_cases, login.token) is UserNotFound


async def test_a_session_belongs_to_one_account(use_cases: UseCases, account: Account, login: Login) -> None:
    other = await use_cases.register()
    await use_cases.log_in(other)
    session_id = (await use_cases.caller(login)).session_id
    token, _ = use_cases.access_tokens.issue(other, session_id, now() + timedelta(hours=1))
    assert await outcome(use_cases, token) is SessionEnded


async def test_a_token_ends_with_its_session(use_cases: UseCases, account: Account) -> None:
    token, expires = use_cases.access_tokens.issue(an_account(), str(uuid4()), now() - timedelta(seconds=1))
    assert expires < now()
    assert await outcome(use_cases, token) is TokenExpired
