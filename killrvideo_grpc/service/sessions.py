"""Sessions: opened by a login, kept alive by refresh tokens, ended by their owner or by age."""

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
from killrvideo_grpc.service.callers import Caller, Origin
from killrvideo_grpc.service.throttle import Throttle

MAX_SESSIONS = 20  # an account; the oldest gives way
# Two tabs may refresh at once, and an answer may get lost: for so long the token before the current one still works.
GRACE = timedelta(seconds=30)
REFUSED = (RefreshTokenExpired, RefreshTokenInvalid, RefreshTokenReused)  # what counts as a failed attempt


@dataclass(frozen=True, slots=True)
class Login:
    """What a good login gives: the account, and two tokens with their ends (UTC)."""

    account: Account
    token: str = field(repr=False)
    expires_at: datetime
    refresh_token: str = field(repr=False)
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lasts: `idle` after its last refresh, and `total` at most."""

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
        """Returns a session that starts now. It counts once a store has it."""
        at = now()
        return Session(str(uuid4()), credential_id, 1, created_date=at, refreshed_date=at, user_agent=origin.user_agent)

    def removable(self, account: Account, room_for: int = 0) -> frozenset[str]:
        """Returns the sessions to remove: dead, expired, and the oldest ones beyond the limit less `room_for`."""
        alive = self.alive(account)
        surplus = max(0, len(alive) + room_for - MAX_SESSIONS)
        kept = {session.session_id for session in alive[: len(alive) - surplus]}
        return account.dead_sessions | (account.sessions.keys() - kept)

    def alive(self, account: Account) -> list[Session]:
        """Returns the sessions that have not expired, newest first."""
        present = now()
        alive = [session for session in account.sessions.values() if self.end_of(session) > present]
        return sorted(alive, key=lambda session: (session.created_date, session.session_id), reverse=True)

    def end_of(self, session: Session) -> datetime:
        """Returns when the session expires unless it is refreshed."""
        return self._lifetimes.end_of(session)

    def grant(self, account: Account, session: Session) -> Login:
        """Issues the tokens of a session."""
        end = self.end_of(session)
        token, expires_at = self._access_tokens.issue(account, session.session_id, end)
        claims = RefreshClaims(account.user_id, session.session_id, session.generation)
        return Login(account, token, expires_at, self._refresh_tokens.issue(claims), end)

    async def refresh(self, token: str, origin: Origin) -> Login:
        """Trades a refresh token for its successor and a new access token.

        Of concurrent calls with one token, all get the same successor. Raises RefreshTokenInvalid,
        RefreshTokenExpired, AccountSuspended, TooManyAttempts, and RefreshTokenReused after ending the session.
        """
        try:
            claims = self._refresh_tokens.verify(token)
        except RefreshTokenInvalid:
            attempt = self._throttle.attempt("", origin.source)
            await attempt.look()
            await attempt.failed()
            raise
        # By the id, not by the address: an app that keeps presenting an old token must not keep people from logging in.
        attempt = self._throttle.attempt(str(claims.user_id), origin.source)
        account, _ = await asyncio.gather(self._store.get(claims.user_id), attempt.look())
        attempt.admit(is_known=account is not None and self._throttle.knows(account, origin.source))
        try:
            return await self._refresh(account, claims, origin)
        except UserNotFound:  # deleted at this moment
            await attempt.failed()
            raise RefreshTokenInvalid from None
        except REFUSED:
            await attempt.failed()
            raise

    async def _refresh(self, account: Account | None, claims: RefreshClaims, origin: Origin) -> Login:
        while True:
            account, session = self._refreshable(account, claims)
            if claims.generation == session.generation:
                # Idempotent, so that concurrent calls agree. What counts is the account as it is afterwards.
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
        """Ends one of the caller's sessions; does nothing when there is no such session."""
        if session_id in caller.account.sessions:
            await self._end(caller.account, {session_id}, Action.SESSIONS_ENDED, origin)

    async def logout(self, caller: Caller, all_sessions: bool, origin: Origin) -> None:
        """Ends the session of the call, or all sessions of its account."""
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
