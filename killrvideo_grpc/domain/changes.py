"""The closed set of changes that an account can undergo, and the events that record them.

A store applies each change as one atomic operation, together with its event: after a crash both are there or neither.
Registering and deleting an account are not among them; they involve an e-mail claim and have methods of their own.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import AccountStatus, Role, Session, now


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
    such as `viewer` and `viewer,moderator`, or session ids; either can be empty.
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

    The session counts only if its credential is still the current one when this is applied.
    """

    session: Session
    removed: frozenset[str] = frozenset()


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
