"""The errors that calls can end in, as data. `errors/` has their texts."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.services import Grant


class ServiceError(Exception):
    """Base class of the failures that are reported to the caller."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken validation rule: `field` is the JSON path (`firstName`), or empty for the request as a whole."""

    field: str
    description: str


class InvalidRequest(ServiceError):
    """The request breaks validation rules. `violations` has all of them, in the order of the fields."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(f"{len(violations)} violations")
        self.violations = tuple(violations)


class EmailAlreadyRegistered(ServiceError):
    """Another account owns this address."""


class InvalidCredentials(ServiceError):
    """The address and password match no active account, or the caller's own password was wrong."""


class InvalidResetCode(ServiceError):
    """The reset code was never issued, or has expired, been used or been replaced."""


class OperatorsOnly(ServiceError):
    """Only operators can reset the password of a moderator."""


class NotAuthenticated(ServiceError):
    """The call carries no bearer token."""


class TokenExpired(ServiceError):
    """The access token was valid but has expired."""


class TokenInvalid(ServiceError):
    """The access token is malformed, or was not issued by this service as an access token."""


class TokenSubjectInvalid(ServiceError):
    """The access token is genuine, but its subject is not a user id."""


class SessionEnded(ServiceError):
    """The access token is genuine, but its session has ended."""


class RefreshTokenInvalid(ServiceError):
    """The refresh token was not issued by this service, or its session has ended."""


class RefreshTokenExpired(ServiceError):
    """The refresh token went unused for too long, or its session is too old."""


class RefreshTokenReused(ServiceError):
    """The refresh token was replaced earlier and may be stolen. Its session has been ended."""


class UserNotFound(ServiceError):
    """There is no such account."""


class AccountSuspended(ServiceError):
    """The caller's account is suspended."""


class NoRolesAssigned(ServiceError):
    """The caller's account has no roles at all."""


class RoleRequired(ServiceError):
    """The caller's account has none of the roles in `role.sufficient`."""

    def __init__(self, role: Role) -> None:
        super().__init__(role.value)
        self.role = role


class GrantRequired(ServiceError):
    """Only services with `grant` may make this call; if it is None, only people."""

    def __init__(self, grant: Grant | None) -> None:
        super().__init__(grant or "none")
        self.grant = grant


class SelfModification(ServiceError):
    """A moderator tried to remove their own moderator role or to change their own status."""

    def __init__(self, subject: Literal["role", "status"]) -> None:
        super().__init__(subject)
        self.subject = subject


class LastModerator(ServiceError):
    """The change would leave no active moderator."""


class TooManyAttempts(ServiceError):
    """Too many attempts have failed, or too many accounts were registered. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"for {retry_after} s")
        self.retry_after = retry_after


class StoreUnavailable(ServiceError):
    """The store is down or refuses the request. The text is the cause, without values, as the store logs it."""


class SetupError(Exception):
    """The service can't run as it is set up. The message tells the operator why and, if known, what to do.

    A call that raises one ends with INTERNAL.
    """


class UnusableStore(SetupError):
    """The store can't be used as it is, and retrying won't help. The message says why, without a full stop."""


class Overloaded(ServiceError):
    """The server has more work than it can handle."""


class DeadlineExceeded(ServiceError):
    """The request did not arrive in time."""


def cause_of(error: Exception) -> str:
    """Return the name of a system error, such as ENOMEM, or the type of another error. Texts may quote values."""
    return errno.errorcode.get(getattr(error, "errno", None) or 0) or type(error).__name__
