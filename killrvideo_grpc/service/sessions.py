"""Sessions: a login opens one, refresh tokens prolong it, and its owner or its age ends it."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from killrvideo_grpc.domain.account import Account, AccountStatus, Session, now
from killrvideo_grpc.domain.changes import Action, EndSessions, Event, RefreshSession
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    RefreshTokenExpired,
    RefreshTokenInvalid,
    RefreshTokenReused,
    UserNotFound,
)
from killrvideo_grpc.domain.ports import AccessTokens, AccountStore, RefreshClaims, RefreshTokens
from killrvideo_grpc.service.authentication import Caller, Origin
from killrvideo_grpc.service.login_throttle import Throttle

MAX_SESSIONS = 20  # per account; a new one replaces the oldest
# How long the previous refresh token still works, because two tabs may refresh at once and a response may get lost.
GRACE = timedelta(seconds=30)
REFUSED = (RefreshTokenExpired, RefreshTokenInvalid, RefreshTokenReused)  # these count as failed attempts


@dataclass(frozen=True, slots=True)
class Login:
    """The result of a login or refresh: the account, and the two tokens with their expiry times (UTC)."""

    account: Account
    token: str = field(repr=False)
    expires_at: datetime
    refresh_token: str = field(repr=False)
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lasts: until `idle` after its last refresh, and at most `total`."""

    idle: timedelta
    total: timedelta

    def end_of(self, session: Session) -> datetime:
        """Returns when the session expires unless it is refreshed."""
        return min(session.refreshed_date + self.idle, session.created_date + self.total)


class Sessions:
    """Issues and refreshes tokens, and lists and ends sessions."""

    def __init__(
        self,
        store: AccountStore,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        lifetimes: Lifetimes,
        throttle: Throttle,
    ) -> None:
        self._store = store
        self._access_tokens = access_tokens
        self._refresh_tokens = refresh_tokens
        self._lifetimes = lifetimes
        self._throttle = throttle

    def new(self, credential_id: str, origin: Origin) -> Session:
        """Returns a session that starts now. It takes effect when a store has saved it."""
        at = now()
        return Session(str(uuid4()), credential_id, 1, created_date=at, refreshed_date=at, user_agent=origin.user_agent)

    def removable(self, account: Account, room_for: int = 0) -> frozenset[str]:
        """Returns the sessions to remove: dead and expired ones, and the oldest, to leave room for `room_for` more."""
        sessions = self.unexpired(account)
        surplus = max(0, len(sessions) + room_for - MAX_SESSIONS)
        kept = {session.session_id for session in sessions[: len(sessions) - surplus]}
        return account.dead_sessions | (account.sessions.keys() - kept)

    def unexpired(self, account: Account) -> list[Session]:
        """Returns the sessions that have not expired, newest first."""
        present = now()
        sessions = [session for session in account.sessions.values() if self.end_of(session) > present]
        return sorted(sessions, key=lambda session: (session.created_date, session.session_id), reverse=True)

    def end_of(self, session: Session) -> datetime:
        """Returns when the session expires unless it is refreshed."""
        return self._lifetimes.end_of(session)

    def grant(self, account: Account, session: Session) -> Login:
        """Issues an access token and a refresh token for a session."""
        end = self.end_of(session)
        token, expires_at = self._access_tokens.issue(account, session.session_id, end)
        claims = RefreshClaims(account.user_id, session.session_id, session.generation)
        return Login(account, token, expires_at, self._refresh_tokens.issue(claims), end)

    async def refresh(self, token: str, origin: Origin) -> Login:
        """Exchanges a refresh token for its successor and a new access token.

        Concurrent calls with the same token all get the same successor. Raises RefreshTokenInvalid,
        RefreshTokenExpired, AccountSuspended, TooManyAttempts, and RefreshTokenReused after ending the session.
        """
        try:
            claims = self._refresh_tokens.verify(token)
        except RefreshTokenInvalid:
            attempt = self._throttle.token_attempt(origin.source)
            await attempt.look()
            await attempt.failed()
            raise
        # Counted under the id, while logins are counted under the address: an app that keeps sending an old token must
        # not prevent its user from logging in.
        attempt = self._throttle.session_attempt(str(claims.user_id), origin.source)
        account, _ = await asyncio.gather(self._store.get(claims.user_id), attempt.look())
        attempt.admit(is_known=account is not None and self._throttle.knows(account, origin.source))
        try:
            return await self._refresh(account, claims, origin)
        except UserNotFound:  # the account has just been deleted
            await attempt.failed()
            raise RefreshTokenInvalid from None
        except REFUSED:
            await attempt.failed()
            raise

    async def _refresh(self, account: Account | None, claims: RefreshClaims, origin: Origin) -> Login:
        while True:
            account, session = self._refreshable(account, claims)
            if claims.generation == session.generation:
                # Idempotent, so that concurrent calls agree. The account as it is afterwards decides.
                change = RefreshSession(session.session_id, session.generation + 1, now())
                account = await self._store.apply(account, change)
                account, session = self._refreshable(account, claims)
                if session.generation != change.generation:
                    continue
            elif claims.generation < session.generation - 1 or now() - session.refreshed_date > GRACE:
                await self._end(account, {session.session_id}, Action.REFRESH_TOKEN_REUSED, origin)
                raise RefreshTokenReused
            return self.grant(account, session)

    def _refreshable(self, account: Account | None, claims: RefreshClaims) -> tuple[Account, Session]:
        session = account.sessions.get(claims.session_id) if account else None
        if account is None or session is None or claims.generation > session.generation:
            raise RefreshTokenInvalid
        if account.status is not AccountStatus.ACTIVE:
            raise AccountSuspended
        if self.end_of(session) <= now():
            raise RefreshTokenExpired
        return account, session

    async def end(self, caller: Caller, session_id: str, origin: Origin) -> None:
        """Ends one of the caller's sessions. Does nothing if there is no such session."""
        if session_id in caller.account.sessions:
            await self._end(caller.account, {session_id}, Action.SESSIONS_ENDED, origin)

    async def logout(self, caller: Caller, all_sessions: bool, origin: Origin) -> None:
        """Ends the session of the caller's token, or all sessions of the account."""
        ended = set(caller.account.sessions) if all_sessions else {caller.session_id}
        await self._end(caller.account, ended, Action.SESSIONS_ENDED, origin)

    async def _end(self, account: Account, session_ids: set[str], action: Action, origin: Origin) -> None:
        event = Event(
            action=action,
            actor=str(account.user_id),
            account=account.user_id,
            request_id=origin.request_id,
        )
        await self._store.apply(account, EndSessions(frozenset(session_ids)), event)
