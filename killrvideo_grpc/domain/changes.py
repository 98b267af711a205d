"""The closed set of changes that an account can undergo, and the events that record them.

A store applies each change as one atomic operation, together with its event: after a crash both are there or neither.
Registering and deleting an account are not among them; they involve an e-mail claim and have methods of their own.
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
    """One entry of the audit trail. Holds no secret, and nothing personal beyond ids.

    `actor` is the user id of whoever acted, or `cli:<login name>` for an operator. `before` and `after` are short texts
    such as `viewer` and `viewer,moderator`, `active` and `suspended`, or the ids of the sessions that ended; either can
    be empty. The store fills them in, because it knows what the account was like when the change was applied.
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
    """Sets the names that are not None."""

    first_name: str | None
    last_name: str | None


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Adds a session, removes the sessions `removed`, and sets the date of the last login to the new session's.

    Dates `source`, unless it is empty, in the account's `sources`, and removes the sources `forgotten`.

    The session counts only if its credential is still the current one when this is applied.
    """

    session: Session
    removed: frozenset[str] = frozenset()
    source: str = ""
    forgotten: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RefreshSession:
    """Raises the generation of a session to `generation` and its `refreshed_date` to `at`, and never lowers either.

    Does not bring back a session that has ended.
    """

    session_id: str
    generation: int
    at: datetime


@dataclass(frozen=True, slots=True)
class EndSessions:
    """Removes sessions. Ids that are not there are ignored."""

    session_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class RenewHash:
    """Replaces the hash of the password that `credential_id` names. Has no effect once the password has changed."""

    credential_id: str
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Makes `session.credential_id` the current credential, with this hash, and `session` the only session.

    Of several that replace the same previous credential, one is applied; the others raise InvalidCredentials.
    """

    previous_credential_id: str
    password_hash: str = field(repr=False)
    session: Session


@dataclass(frozen=True, slots=True)
class AssignRole:
    """Adds a role. Has no effect where the account has it."""

    role: Role


@dataclass(frozen=True, slots=True)
class RevokeRole:
    """Removes a role. Has no effect where the account lacks it. `force` lets the last moderator go."""

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
    """Says whether the change would change the account. If not, nothing has happened and no event is recorded."""
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
    """Returns the event with what the change does to the account."""
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
    """Lists roles as events have them, in the order of the ladder."""
    return ",".join(role.value for role in Role if role in set(roles))
