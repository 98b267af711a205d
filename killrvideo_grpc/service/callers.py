"""Who is calling: turns a bearer token into a live account that may do what the RPC asks for."""

from typing import NamedTuple

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.errors import AccountSuspended, NoRolesAssigned, RoleRequired, SessionEnded, UserNotFound
from killrvideo_grpc.domain.ports import AccessTokens, AccountStore


class Caller(NamedTuple):
    """The account behind a call, as the store had it when the call came in, and the session of its token."""

    account: Account
    session_id: str


class Origin(NamedTuple):
    """Where a call comes from: its request id, what the caller says it is, and its source for throttling.

    The source is an IPv4 address or an IPv6 network. None: another service called, and doesn't say for whom.
    """

    request_id: str = ""
    user_agent: str = ""
    source: str | None = None


class Authenticator:
    """Checks access tokens against the live account, with one read of the store."""

    def __init__(self, store: AccountStore, tokens: AccessTokens) -> None:
        self._store = store
        self._tokens = tokens

    async def authenticate(self, token: str, role: Role) -> Caller:
        """Returns the caller if its account may act as `role`.

        Raises TokenExpired, TokenInvalid, TokenSubjectInvalid, UserNotFound, AccountSuspended, SessionEnded,
        NoRolesAssigned or RoleRequired. The roles that count are the account's own, not those in the token.
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
        return Caller(account, session_id)
