"""The closed set of changes to an account, and the events that record them.

A store applies each change and its event as one atomic operation: after a crash, either both are stored or neither.
Registration and deletion are not in this set: they also claim or free an e-mail address, and have their own methods.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, Session, now


class Action(StrEnum):
    """What happened to an account."""

    REGISTERED = "registered"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 # not a password
    SESSIONS_ENDED = "sessions_ended"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 # not a password
    ROLE_ASSIGNED = "role_assigned"
    ROLE_REVOKED = "role_revoked"
    SUSPENDED = "suspended"
    REINSTATED = "reinstated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the audit trail. Holds no secrets, and no personal data except ids.

    `actor` is the acting user's id, or `cli:<login name>` for an operator. `before` and `after` are short texts such as
    `viewer` and `viewer,moderator`, `active` and `suspended`, or the ids of the sessions that ended; either can be
    empty. The store fills them in, because only it knows the account's state at the moment of the change.
    """

    action: Action
    actor: str
    account: UUID
    reason: str = ""
    request_id: str = ""
    before: str = ""
    after: str = ""
    at: datetime = field(default_factory=now)
    event_id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, slots=True)
class Rename:
    """Changes the first name, the last name, or both. None leaves a name as it is."""

    first_name: str | None
    last_name: str | None


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Adds `session`, removes the sessions in `removed`, and sets `last_login_date` to the new session's date.

    If the session's credential is no longer the current one, the session is dead from the start. `source`, unless it is
    empty, is added to the account's `sources` with the same date, and the sources in `forgotten` are removed.
    """

    session: Session
    removed: frozenset[str] = frozenset()
    source: str = ""
    forgotten: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RefreshSession:
    """Raises a session's generation to `generation` and its `refreshed_date` to `at`; never lowers either.

    Does not revive a session that has ended.
    """

    session_id: str
    generation: int
    at: datetime


@dataclass(frozen=True, slots=True)
class EndSessions:
    """Removes sessions. Ignores unknown ids."""

    session_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class RenewHash:
    """Replaces the hash of the password identified by `credential_id`. Has no effect if the password has changed."""

    credential_id: str
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Replaces the password: `session.credential_id` becomes the current credential, `session` the only session.

    If several changes replace the same previous credential, one is applied; the others raise InvalidCredentials.
    """

    previous_credential_id: str
    password_hash: str = field(repr=False)
    session: Session


@dataclass(frozen=True, slots=True)
class AssignRole:
    """Adds a role. Has no effect if the account has it."""

    role: Role


@dataclass(frozen=True, slots=True)
class RevokeRole:
    """Removes a role. Has no effect if the account lacks it. `force` allows demoting the last moderator."""

    role: Role
    force: bool = False


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Suspends or reinstates the account."""

    status: AccountStatus


Change: TypeAlias = (
    Rename
    | OpenSession
    | RefreshSession
    | EndSessions
    | RenewHash
    | ChangePassword
    | AssignRole
    | RevokeRole
    | SetStatus
)


def has_effect(change: Change, account: Account) -> bool:
    """Returns whether the change would alter the account. If not, no event is recorded."""
    match change:
        case AssignRole(role):
            return role not in account.roles
        case RevokeRole(role):
            return role in account.roles
        case SetStatus(status):
            return status is not account.status
        case EndSessions(session_ids):
            return not session_ids.isdisjoint(account.sessions)
        case _:
            return True


def described(event: Event, change: Change, account: Account) -> Event:
    """Returns the event with `before` and `after` set for this change to this account."""
    match change:
        case AssignRole(role):
            return replace(event, before=role_names(account.roles), after=role_names(account.roles | {role}))
        case RevokeRole(role):
            return replace(event, before=role_names(account.roles), after=role_names(account.roles - {role}))
        case SetStatus(status):
            return replace(event, before=account.status.value, after=status.value)
        case EndSessions(session_ids):
            return replace(event, before=",".join(sorted(session_ids & account.sessions.keys())))
        case _:
            return event


def role_names(roles: Iterable[Role]) -> str:
    """Returns the roles as events list them: comma-separated, lowest first."""
    return ",".join(role.value for role in Role if role in set(roles))
