"""Every error that a call can end in. Errors carry data; `error_table.py` has their texts.

ServiceError
├── InvalidRequest             the request breaks shape rules
├── EmailAlreadyRegistered
├── InvalidCredentials         a refused password, whatever the reason
├── NotAuthenticated           no bearer token
├── TokenExpired
├── TokenInvalid
├── TokenSubjectInvalid
├── SessionEnded
├── RefreshTokenInvalid
├── RefreshTokenExpired
├── RefreshTokenReused
├── UserNotFound
├── AccountSuspended
├── NoRolesAssigned
├── RoleRequired
├── OwnAccount                 a moderator acts on their own role or status
├── LastModerator
├── TooManyAttempts            too many failed logins, or registrations
├── StoreUnavailable           the database is down or refuses
├── Overloaded                 more calls than the server can handle
└── DeadlineExceeded           the caller's time is up

UnusableStore is not one of them: it prevents a start, and no caller ever sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from killrvideo_grpc.domain.account import Role


class ServiceError(Exception):
    """A failure that callers are told about."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken shape rule: `field` is the JSON path (`firstName`), or empty for the request as a whole."""

    field: str
    description: str


class InvalidRequest(ServiceError):
    """The request breaks shape rules: all that were found, in the order of the fields."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(f"{len(violations)} violations")
        self.violations = tuple(violations)


class EmailAlreadyRegistered(ServiceError):
    """An account has claimed this address."""


class InvalidCredentials(ServiceError):
    """No active account has this address with this password, or the caller's own password was wrong."""


class NotAuthenticated(ServiceError):
    """The call carries no bearer token."""


class TokenExpired(ServiceError):
    """The token was good once."""


class TokenInvalid(ServiceError):
    """The token is not one that this service made for itself."""


class TokenSubjectInvalid(ServiceError):
    """The token is genuine and its subject is no user id."""


class SessionEnded(ServiceError):
    """The token is genuine; its session has ended, by logout, by a new password, or for its age."""


class RefreshTokenInvalid(ServiceError):
    """The refresh token is not one that this service issued, or its session has ended."""


class RefreshTokenExpired(ServiceError):
    """The refresh token was not used for too long, or its session is too old."""


class RefreshTokenReused(ServiceError):
    """The refresh token was replaced by a newer one some time ago. Its session is ended, for it may be stolen."""


class UserNotFound(ServiceError):
    """No account has this id."""


class AccountSuspended(ServiceError):
    """The caller's account is suspended."""


class NoRolesAssigned(ServiceError):
    """The caller's account has no roles at all."""


class RoleRequired(ServiceError):
    """The caller's account lacks a role: any of `role.sufficient` would do."""

    def __init__(self, role: Role) -> None:
        super().__init__(role.value)
        self.role = role


class OwnAccount(ServiceError):
    """A moderator acts on the own role of moderator, or on the own status."""

    def __init__(self, subject: Literal["role", "status"]) -> None:
        super().__init__(subject)
        self.subject = subject


class LastModerator(ServiceError):
    """The change would leave no active moderator."""


class TooManyAttempts(ServiceError):
    """Too many attempts have failed, or too many accounts were registered, until so many seconds are over."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"for {retry_after} s")
        self.retry_after = retry_after


class StoreUnavailable(ServiceError):
    """The store is down or refuses. The store itself logs the cause, as a code and never with values."""


class UnusableStore(Exception):
    """The store can't be used as it is, and waiting won't help. The text is for the operator."""


class Overloaded(ServiceError):
    """More calls are waiting than the server can handle."""


class DeadlineExceeded(ServiceError):
    """The time that the caller allowed is over, or the request did not arrive in time."""
