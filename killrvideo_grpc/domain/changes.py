"""Changes of an account, as pure functions. Stores call `decide` between reading and writing, once per attempt."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from killrvideo_grpc.domain.account import Account, AccountStatus, Lifetimes, ResetCode, Role, Session
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    InvalidCredentials,
    InvalidResetCode,
    OperatorsOnly,
    RefreshTokenExpired,
    RefreshTokenInvalid,
)
from killrvideo_grpc.domain.events import Action, Cause, Event, role_list

MAX_SESSIONS = 20  # per account
MAX_SOURCES = 20  # per account
SOURCE_KNOWN_FOR = timedelta(days=30)  # since the last login from there
REUSE_INTERVAL = timedelta(minutes=10)  # while the previous refresh token still works


@dataclass(frozen=True, slots=True)
class Transition:
    """The outcome of a change. `account` is None after a deletion; `password_hash` is None if it stays."""

    account: Account | None
    event: Event | None = None
    password_hash: str | None = field(default=None, repr=False)

    def has_effect_on(self, before: Account) -> bool:
        """Return whether anything has to be written."""
        return self.account != before or self.password_hash is not None

    def loses_moderator(self, before: Account) -> bool:
        """Return whether the account stops being an active moderator."""
        return before.is_active_moderator and not self._is_moderator

    def gains_moderator(self, before: Account) -> bool:
        """Return whether the account becomes an active moderator."""
        return self._is_moderator and not before.is_active_moderator

    @property
    def _is_moderator(self) -> bool:
        return self.account is not None and self.account.is_active_moderator


class Change(Protocol):
    """A change of an account."""

    def decide(self, account: Account, cause: Cause) -> Transition:
        """Return the outcome. Without an effect, the account stays equal and there is no event."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Change the first name, the last name, or both. None leaves a name as it is."""

    first_name: str | None
    last_name: str | None

    def decide(self, account: Account, cause: Cause) -> Transition:
        first = account.first_name if self.first_name is None else self.first_name
        last = account.last_name if self.last_name is None else self.last_name
        return Transition(replace(account, first_name=first, last_name=last))


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Add a session, opened with the password `credential_id` from `source` (a digest, or empty).

    End the least recently used sessions beyond MAX_SESSIONS. Raise InvalidCredentials if the password is no longer
    current or the account is suspended.
    """

    credential_id: str
    session: Session
    lifetimes: Lifetimes
    source: str = ""

    def decide(self, account: Account, cause: Cause) -> Transition:
        _require_credential(account, self.credential_id)
        if account.status is not AccountStatus.ACTIVE:
            raise InvalidCredentials
        at = self.session.created_date
        live = self.lifetimes.unexpired(account.sessions.values(), at)
        kept, replaced = live[: MAX_SESSIONS - 1], live[MAX_SESSIONS - 1 :]
        after = _logged_in(account, [*kept, self.session], self.source)
        ids = _joined({session.session_id for session in replaced})
        return Transition(after, cause.event(account, Action.SESSION_REPLACED, ids) if ids else None)


@dataclass(frozen=True, slots=True)
class RefreshSession:
    """Replace the refresh token `generation` with its successor, or end the session if it was reused.

    Raise RefreshTokenInvalid, RefreshTokenExpired or AccountSuspended.
    """

    session_id: str
    generation: int
    at: datetime
    lifetimes: Lifetimes

    def decide(self, account: Account, cause: Cause) -> Transition:
        session = account.sessions.get(self.session_id)
        if session is None or self.generation > session.generation:
            raise RefreshTokenInvalid
        if account.status is not AccountStatus.ACTIVE:
            raise AccountSuspended
        if self.lifetimes.end_of(session) <= self.at:
            raise RefreshTokenExpired
        if self.generation == session.generation:
            refreshed = replace(session, generation=session.generation + 1, refreshed_date=self.at)
            return Transition(replace(account, sessions={**account.sessions, session.session_id: refreshed}))
        if self.generation == session.generation - 1 and self.at - session.refreshed_date <= REUSE_INTERVAL:
            return Transition(account)
        return _without_sessions(account, {session.session_id}, Action.REFRESH_TOKEN_REUSED, cause)


@dataclass(frozen=True, slots=True)
class EndSessions:
    """End these sessions, or all if None. Unknown ids are ignored."""

    session_ids: frozenset[str] | None

    def decide(self, account: Account, cause: Cause) -> Transition:
        ids = account.sessions.keys() if self.session_ids is None else self.session_ids
        return _without_sessions(account, ids, Action.SESSIONS_ENDED, cause)


@dataclass(frozen=True, slots=True)
class RehashPassword:
    """Store another hash of the same password. Do nothing if `credential_id` is no longer current."""

    credential_id: str
    password_hash: str = field(repr=False)

    def decide(self, account: Account, cause: Cause) -> Transition:
        is_current = self.credential_id == account.credential_id
        return Transition(account, password_hash=self.password_hash if is_current else None)


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Replace the password `credential_id` with another, and all sessions with one.

    Raise InvalidCredentials if `credential_id` is no longer current.
    """

    credential_id: str
    new_credential_id: str
    password_hash: str = field(repr=False)
    session: Session

    def decide(self, account: Account, cause: Cause) -> Transition:
        _require_credential(account, self.credential_id)
        sessions = {self.session.session_id: self.session}
        after = replace(account, credential_id=self.new_credential_id, sessions=sessions, reset_code=None)
        return Transition(after, cause.event(account, Action.PASSWORD_CHANGED), self.password_hash)


@dataclass(frozen=True, slots=True)
class RequestReset:
    """Replace the reset code. Raise OperatorsOnly for a moderator's account unless an operator made the code."""

    code: ResetCode

    def decide(self, account: Account, cause: Cause) -> Transition:
        if Role.MODERATOR in account.roles and not self.code.by_operator:
            raise OperatorsOnly
        if self.code == account.reset_code:
            return Transition(account)
        event = cause.event(account, Action.PASSWORD_RESET_REQUESTED)
        return Transition(replace(account, reset_code=self.code), event)


@dataclass(frozen=True, slots=True)
class ResetPassword:
    """Redeem a reset code: replace the password and end all sessions. Raise InvalidResetCode.

    Open a new session unless the account is suspended.
    """

    code_digest: str = field(repr=False)
    new_credential_id: str
    password_hash: str = field(repr=False)
    session: Session
    source: str

    def decide(self, account: Account, cause: Cause) -> Transition:
        at = self.session.created_date
        if not account.accepts_reset_code(self.code_digest, at):
            raise InvalidResetCode
        after = replace(account, credential_id=self.new_credential_id, sessions={}, reset_code=None)
        if account.status is AccountStatus.ACTIVE:
            after = _logged_in(after, [self.session], self.source)
        return Transition(after, cause.event(account, Action.PASSWORD_RESET), self.password_hash)


@dataclass(frozen=True, slots=True)
class ChangeEmail:
    """Replace the address. Raise InvalidCredentials if the password `credential_id` is no longer current."""

    credential_id: str
    email: str

    def decide(self, account: Account, cause: Cause) -> Transition:
        _require_credential(account, self.credential_id)
        if self.email == account.email:
            return Transition(account)
        after = replace(account, email=self.email, reset_code=None)
        return Transition(after, cause.event(account, Action.EMAIL_CHANGED))


@dataclass(frozen=True, slots=True)
class Unblock:
    """Disregard all failed attempts so far."""

    def decide(self, account: Account, cause: Cause) -> Transition:
        if account.unblocked_date == cause.at:
            return Transition(account)
        return Transition(replace(account, unblocked_date=cause.at), cause.event(account, Action.UNBLOCKED))


@dataclass(frozen=True, slots=True)
class AssignRole:
    """Add a role."""

    role: Role

    def decide(self, account: Account, cause: Cause) -> Transition:
        return _with_roles(account, account.roles | {self.role}, Action.ROLE_ASSIGNED, cause)


@dataclass(frozen=True, slots=True)
class RevokeRole:
    """Remove a role."""

    role: Role

    def decide(self, account: Account, cause: Cause) -> Transition:
        return _with_roles(account, account.roles - {self.role}, Action.ROLE_REVOKED, cause)


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Suspend or reinstate the account."""

    status: AccountStatus

    def decide(self, account: Account, cause: Cause) -> Transition:
        if self.status is account.status:
            return Transition(account)
        action = Action.REINSTATED if self.status is AccountStatus.ACTIVE else Action.SUSPENDED
        event = cause.event(account, action, account.status.value, self.status.value)
        return Transition(replace(account, status=self.status), event)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the account. Raise InvalidCredentials if the password `credential_id` is no longer current.

    Operators pass None: they need no password.
    """

    credential_id: str | None

    def decide(self, account: Account, cause: Cause) -> Transition:
        if self.credential_id is not None:
            _require_credential(account, self.credential_id)
        return Transition(None, cause.event(account, Action.DELETED, role_list(account.roles)))


def _require_credential(account: Account, credential_id: str) -> None:
    if account.credential_id != credential_id:
        raise InvalidCredentials


def _logged_in(account: Account, sessions: Sequence[Session], source: str) -> Account:
    """Return the account with these sessions, after a login that opened the last one from `source`."""
    at = sessions[-1].created_date
    return replace(
        account,
        sessions={session.session_id: session for session in sessions},
        sources=_with_source(account, source, at) if source else account.sources,
        last_login_date=max(at, account.last_login_date or at),
    )


def _with_source(account: Account, source: str, at: datetime) -> dict[str, datetime]:
    known = [(date, each) for each, date in account.sources.items() if each != source and at - date < SOURCE_KNOWN_FOR]
    return {each: date for date, each in sorted(known)[-(MAX_SOURCES - 1) :]} | {source: at}


def _without_sessions(account: Account, ids: AbstractSet[str], action: Action, cause: Cause) -> Transition:
    ended = account.sessions.keys() & ids
    if not ended:
        return Transition(account)
    remaining = {key: session for key, session in account.sessions.items() if key not in ended}
    return Transition(replace(account, sessions=remaining), cause.event(account, action, _joined(ended)))


def _with_roles(account: Account, roles: frozenset[Role], action: Action, cause: Cause) -> Transition:
    if roles == account.roles:
        return Transition(account)
    event = cause.event(account, action, role_list(account.roles), role_list(roles))
    return Transition(replace(account, roles=roles), event)


def _joined(ids: AbstractSet[str]) -> str:
    return ",".join(sorted(ids))
