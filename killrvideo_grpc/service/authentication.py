"""Authentication and authorization of callers by access token."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    GrantRequired,
    NoRolesAssigned,
    RoleRequired,
    ServiceError,
    SessionEnded,
    UserNotFound,
)
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.domain.ports import AccessClaims, AccessTokens, AccountStore
from killrvideo_grpc.domain.services import TOKEN_PREFIX, Grant
from killrvideo_grpc.service.service_authentication import ServiceAuthenticator, ServicePrincipal


class Principal(NamedTuple):
    """The caller's account, as read when the call arrived, and the session id of its token."""

    account: Account
    session_id: str

    @property
    def actor(self) -> str:
        """Its name in logs and in the audit trail."""
        return str(self.account.user_id)


class AccessRule(NamedTuple):
    """Who may make a call: accounts with `role` and services with `grant`. None admits none of them."""

    role: Role | None
    grant: Grant | None


class CheckedToken(NamedTuple):
    """A valid access token of a live session."""

    principal: Principal
    expires_at: datetime


class ClientInfo(NamedTuple):
    """Where a call comes from: its request id, its user agent, and its source for throttling.

    The source is an IPv4 address or an IPv6 network; None if a trusted proxy doesn't name its client.
    """

    request_id: str = ""
    user_agent: str = ""
    source: str | None = None


class Authenticator:
    """Authenticates callers: people with one read of the store, services without."""

    def __init__(self, store: AccountStore, tokens: AccessTokens, services: ServiceAuthenticator) -> None:
        self._store = store
        self._tokens = tokens
        self._services = services

    async def authenticate(self, token: str, rule: AccessRule) -> Principal | ServicePrincipal:
        """Return the caller if the rule admits it. The roles in the token are ignored.

        Raise TokenExpired, TokenInvalid, TokenSubjectInvalid, UserNotFound, AccountSuspended, SessionEnded,
        NoRolesAssigned, RoleRequired or GrantRequired.
        """
        if token.startswith(TOKEN_PREFIX):
            return await self._authenticate_service(token, rule.grant)
        principal = await self._authenticate_account(token)
        if rule.role is None:
            raise GrantRequired(rule.grant)
        if not principal.account.may_act_as(rule.role):
            raise RoleRequired(rule.role)
        return principal

    async def authenticate_person(self, token: str) -> Principal:
        """Return the caller, whatever their role, as `authenticate` does. Raise GrantRequired for a service."""
        if token.startswith(TOKEN_PREFIX):
            await self._services.authenticate(token)
            raise GrantRequired(None)
        return await self._authenticate_account(token)

    async def _authenticate_account(self, token: str) -> Principal:
        claims = self._tokens.verify(token)
        return _live_principal(await self._store.get(claims.user_id), claims)

    async def _authenticate_service(self, token: str, grant: Grant | None) -> ServicePrincipal:
        principal = await self._services.authenticate(token)
        if grant is None or grant not in principal.service.grants:
            raise GrantRequired(grant)
        return principal

    async def check(self, tokens: Sequence[str]) -> list[CheckedToken | ServiceError]:
        """Return for each access token who could call with it, or the error that the call would get."""
        verified: list[AccessClaims | ServiceError] = []
        for token in tokens:
            try:
                verified.append(self._tokens.verify(token))
            except ServiceError as error:
                verified.append(error)
            await asyncio.sleep(0)  # let other calls run: checking a signature takes longer than most
        accounts = await self._store.get_many({each.user_id for each in verified if isinstance(each, AccessClaims)})
        return [
            each if isinstance(each, ServiceError) else _checked(accounts.get(each.user_id), each) for each in verified
        ]


def _checked(account: Account | None, claims: AccessClaims) -> CheckedToken | ServiceError:
    try:
        return CheckedToken(_live_principal(account, claims), claims.expires_at)
    except ServiceError as error:
        return error


def _live_principal(account: Account | None, claims: AccessClaims) -> Principal:
    if account is None:
        raise UserNotFound
    if account.status is not AccountStatus.ACTIVE:
        raise AccountSuspended
    if claims.session_id not in account.sessions:
        raise SessionEnded
    if not account.roles:
        raise NoRolesAssigned
    return Principal(account, claims.session_id)


def own_cause(account: Account, client: ClientInfo) -> Cause:
    """Return the cause of a change that the account's owner makes."""
    return Cause(str(account.user_id), request_id=client.request_id)
