"""The audit trail: events that record what happened to an account, by whom and why."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import Account, Role, now, role_names

# Calls are dated before they wait for each other. A larger difference comes from a wrong clock.
MAX_DISORDER = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)


class Action(StrEnum):
    """What happened to an account."""

    REGISTERED = "registered"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 # not a password
    PASSWORD_RESET_REQUESTED = "password_reset_requested"  # noqa: S105 # not a password
    PASSWORD_RESET = "password_reset"  # noqa: S105 # not a password
    EMAIL_CHANGED = "email_changed"
    UNBLOCKED = "unblocked"
    SESSIONS_ENDED = "sessions_ended"
    SESSION_REPLACED = "session_replaced"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 # not a password
    ROLE_ASSIGNED = "role_assigned"
    ROLE_REVOKED = "role_revoked"
    SUSPENDED = "suspended"
    REINSTATED = "reinstated"
    DELETED = "deleted"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the audit trail, without secrets.

    `before` and `after` are roles, a status, session ids, what an import found, or empty. `action` is text if only a
    newer version knows it.
    """

    action: Action | str
    account: UUID
    actor: str
    reason: str
    request_id: str
    before: str
    after: str
    at: datetime
    event_id: UUID

    def after_latest(self, latest: datetime | None) -> "Event":
        """Return the event, dated after the account's latest one unless that is far in the future."""
        if latest is None or not self.at <= latest < self.at + MAX_DISORDER:
            return self
        return replace(self, at=latest + MILLISECOND)


def read_action(name: str) -> Action | str:
    """Parse a stored action."""
    try:
        return Action(name)
    except ValueError:
        return name


@dataclass(frozen=True, slots=True)
class Cause:
    """Who makes a change, why and when. Retries keep the cause, and with it the event's id.

    `actor` is a user id, `service:<name>`, or `cli:<login name>` for an operator.
    """

    actor: str
    reason: str = ""
    request_id: str = ""
    at: datetime = field(default_factory=now)
    event_id: UUID = field(default_factory=uuid4)

    def event(self, account: Account, action: Action, before: str = "", after: str = "") -> Event:
        """Return the event of a change with this cause."""
        return Event(
            action=action,
            account=account.user_id,
            actor=self.actor,
            reason=self.reason,
            request_id=self.request_id,
            before=before,
            after=after,
            at=self.at,
            event_id=self.event_id,
        )

    def registration(self, account: Account) -> Event:
        """Return the event of a new account."""
        return self.event(account, Action.REGISTERED, after=role_list(account.roles))


def role_list(roles: frozenset[Role]) -> str:
    """Return the names of the roles, comma-separated."""
    return ",".join(role_names(roles))
