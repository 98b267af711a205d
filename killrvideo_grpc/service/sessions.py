"""Sessions and their tokens."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from killrvideo_grpc.domain.account import Account, Lifetimes, Session, now
from killrvideo_grpc.domain.changes import EndSessions, RefreshSession
from killrvideo_grpc.domain.errors import RefreshTokenInvalid, RefreshTokenReused, UserNotFound
from killrvideo_grpc.domain.ports import AccessTokens, AccountStore, RefreshClaims, RefreshTokens
from killrvideo_grpc.service.authentication import ClientInfo, Principal, own_cause
from killrvideo_grpc.service.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Login:
    """The result of a login or refresh: the account, and the two tokens with their expiry times (UTC)."""

    account: Account
    token: str = field(repr=False)
    expires_at: datetime
    refresh_token: str = field(repr=False)
    refresh_expires_at: datetime


class Sessions:
    """The use cases of sessions."""

    def __init__(
        self,
        store: AccountStore,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        lifetimes: Lifetimes,
        throttle: Throttle,
    ) -> None:
        self.lifetimes = lifetimes
        self._store = store
        self._access_tokens = access_tokens
        self._refresh_tokens = refresh_tokens
        self._throttle = throttle

    def create(self, client: ClientInfo) -> Session:
        """Return a session that starts now, for a store to save."""
        at = now()
        return Session(str(uuid4()), 1, created_date=at, refreshed_date=at, user_agent=client.user_agent)

    def unexpired(self, account: Account) -> list[Session]:
        """Return the sessions that have not expired, the newest first."""
        live = self.lifetimes.unexpired(account.sessions.values(), now())
        return sorted(live, key=lambda session: (session.created_date, session.session_id), reverse=True)

    def grant(self, account: Account, session: Session) -> Login:
        """Issue an access token and a refresh token for a session."""
        end = self.lifetimes.end_of(session)
        token, expires_at = self._access_tokens.issue(account, session.session_id, end)
        claims = RefreshClaims(account.user_id, session.session_id, session.generation)
        return Login(account, token, expires_at, self._refresh_tokens.issue(claims), end)

    async def refresh(self, token: str, client: ClientInfo) -> Login:
        """Exchange a refresh token for its successor and a new access token.

        Concurrent calls with the same token get the same successor. Raise RefreshTokenInvalid, RefreshTokenExpired,
        AccountSuspended, TooManyAttempts, or RefreshTokenReused after ending the session.
        """
        try:
            claims = self._refresh_tokens.verify(token)
        except RefreshTokenInvalid:
            await self._throttle.count_forged_token(client.source)
            raise
        return await self._refresh(await self._store.get(claims.user_id), claims, client)

    async def _refresh(self, seen: Account | None, claims: RefreshClaims, client: ClientInfo) -> Login:
        if seen is None:
            raise RefreshTokenInvalid
        change = RefreshSession(claims.session_id, claims.generation, now(), self.lifetimes)
        try:
            account = await self._store.apply(seen.user_id, change, own_cause(seen, client), seen=seen)
        except UserNotFound:  # the account has just been deleted
            raise RefreshTokenInvalid from None
        session = account.sessions.get(claims.session_id)
        if session is None:
            raise RefreshTokenReused
        return self.grant(account, session)

    async def end(self, principal: Principal, session_id: str, client: ClientInfo) -> None:
        """End one of the caller's sessions. Do nothing if there is no such session."""
        await self._end(principal.account, EndSessions(frozenset({session_id})), client)

    async def logout(self, principal: Principal, all_sessions: bool, client: ClientInfo) -> None:
        """End the session of the caller's token, or all sessions of the account."""
        await self._end(
            principal.account, EndSessions(None if all_sessions else frozenset({principal.session_id})), client
        )

    async def _end(self, account: Account, change: EndSessions, client: ClientInfo) -> None:
        await self._store.apply(account.user_id, change, own_cause(account, client), seen=account)
