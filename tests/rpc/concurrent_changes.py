"""Changes that others make to an account between a call's read and its write."""

from collections.abc import Awaitable, Callable

from killrvideo_grpc.domain.account import Account, AccountStatus, now
from killrvideo_grpc.domain.changes import Action, EndSessions, RefreshSession, SetStatus
from killrvideo_grpc.domain.ports import AccountStore
from tests.support.accounts import a_new_password, an_event

Step = Callable[[AccountStore, Account], Awaitable[object]]


def new_password(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account, a_new_password(account))


def suspension(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account, SetStatus(AccountStatus.SUSPENDED))


def deletion(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.delete(account, an_event(account, Action.DELETED))


def logout(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account, EndSessions(frozenset(account.sessions)))


def refresh(store: AccountStore, account: Account) -> Awaitable[object]:
    """Refreshes in another tab, with the same token."""
    return store.apply(account, RefreshSession(_only_session(account), 2, now()))


def two_refreshes(store: AccountStore, account: Account) -> Awaitable[object]:
    return store.apply(account, RefreshSession(_only_session(account), 3, now()))


def _only_session(account: Account) -> str:
    (session_id,) = account.sessions
    return session_id


# The outcomes of a login, and of a refresh with the first refresh token of the only session.
SPOILS_LOGIN: dict[Step, str] = dict.fromkeys([new_password, suspension, deletion], "INVALID_CREDENTIALS")
SPOILS_REFRESH: dict[Step, str] = {
    logout: "REFRESH_TOKEN_INVALID",
    new_password: "REFRESH_TOKEN_INVALID",
    two_refreshes: "REFRESH_TOKEN_REUSED",
    deletion: "REFRESH_TOKEN_INVALID",
}
