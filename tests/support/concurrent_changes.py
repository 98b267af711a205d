"""Changes of an account between a call's read and its write."""

from collections.abc import Awaitable, Callable

from killrvideo_grpc.domain.account import Account, AccountStatus
from killrvideo_grpc.domain.changes import Delete, EndSessions, SetStatus
from killrvideo_grpc.domain.ports import AccountStore
from tests.support.accounts import a_cause, a_new_password, refreshing

Step = Callable[[AccountStore, Account], Awaitable[object]]


def new_password(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account.user_id, a_new_password(account), a_cause(account))


def suspension(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), a_cause(account))


def deletion(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account.user_id, Delete(account.credential_id), a_cause(account))


def logout(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account.user_id, EndSessions(frozenset(account.sessions)), a_cause(account))


def refresh(store: AccountStore, account: Account) -> Awaitable[object]:
    """Refresh in another tab, with the same token."""
    (session,) = account.sessions.values()
    return store.apply(account.user_id, refreshing(session), a_cause(account))


async def two_refreshes(store: AccountStore, account: Account) -> None:
    for _ in range(2):
        (session,) = account.sessions.values()
        account = await store.apply(account.user_id, refreshing(session), a_cause(account))


# The outcomes of a login, and of a refresh with the first refresh token of the only session.
SPOILS_LOGIN: dict[Step, str] = dict.fromkeys([new_password, suspension, deletion], "INVALID_CREDENTIALS")
SPOILS_REFRESH: dict[Step, str] = {
    logout: "REFRESH_TOKEN_INVALID",
    new_password: "REFRESH_TOKEN_INVALID",
    two_refreshes: "REFRESH_TOKEN_REUSED",
    deletion: "REFRESH_TOKEN_INVALID",
}
