"""Authentication and authorization of callers by access token."""

from typing import NamedTuple

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.errors import AccountSuspended, NoRolesAssigned, RoleRequired, SessionEnded, UserNotFound
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.domain.ports import AccessTokens, AccountStore


class Principal(NamedTuple):
    """The caller's account, as read when the call arrived, and the session id of its token."""

    account: Account
    session_id: str


class ClientInfo(NamedTuple):
    """Where a call comes from: its request id, its user agent, and its source for throttling.

    The source is an IPv4 address or an IPv6 network; None if a trusted proxy doesn't name its client.
    """

    request_id: str = ""
    user_agent: str = ""
    source: str | None = None


class Authenticator:
    """Authenticates callers with one read of the store."""

    def __init__(self, store: AccountStore, tokens: AccessTokens) -> None:
        self._store = store
        self._tokens = tokens

    async def authenticate(self, token: str, role: Role) -> Principal:
        """Return the caller if its account has `role` or a higher one. The roles in the token are ignored.

        Raise TokenExpired, TokenInvalid, TokenSubjectInvalid, UserNotFound, AccountSuspended, SessionEnded,
        NoRolesAssigned or RoleRequired.
        """
        user_id, session_id = self._tokens.verify(token)
        account = await self._store.get(user_id)
        if account is None:
            raise UserNotFound
        if account.status is not AccountStatus.ACTIVE:
            raise AccountSuspended
        if session_id not in account.sessions:
            raise SessionEnded
        if not account.roles:
            raise NoRolesAssigned
        if not account.may_act_as(role):
            raise RoleRequired(role)
        return Principal(account, session_id)


def own_cause(account: Account, client: ClientInfo) -> Cause:
    """Return the cause of a change that the account's owner makes."""
    return Cause(str(account.user_id), request_id=client.request_id)
