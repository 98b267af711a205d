"""Everything that a call can fail with, and nothing else. Errors carry data; `rpc/status.py` has their texts.

ServiceError
├── InvalidRequest             the request breaks shape rules
├── EmailAlreadyRegistered
├── InvalidCredentials         a login that is not one, whatever the reason
├── NotAuthenticated           no bearer token
├── TokenExpired
├── TokenInvalid
├── TokenSubjectInvalid
├── UserNotFound
├── AccountSuspended
├── NoRolesAssigned
├── RoleRequired
├── StoreUnavailable           the database is away or refuses
├── Overloaded                 more calls than the server can take
└── DeadlineExceeded           the caller's time is up

UnusableStore stands beside them: it stops a start, and no caller ever sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from killrvideo_grpc.domain.user import Role


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
    """No active account has this address with this password."""


class NotAuthenticated(ServiceError):
    """The call carries no bearer token."""


class TokenExpired(ServiceError):
    """The token was good once."""


class TokenInvalid(ServiceError):
    """The token is not one that this service made for itself."""


class TokenSubjectInvalid(ServiceError):
    """The token is genuine and its subject is no user id."""


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


class StoreUnavailable(ServiceError):
    """The store is away or refuses. What a store knows of the cause it logs itself, by code and never by value."""


class UnusableStore(Exception):
    """The store is not as it must be to be used at all: waiting mends nothing. The text is for the operator."""


class Overloaded(ServiceError):
    """More calls wait than the server can take."""


class DeadlineExceeded(ServiceError):
    """The time that the caller gave is up."""
