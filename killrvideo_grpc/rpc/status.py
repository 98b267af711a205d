"""The one table from domain errors to what a caller sees: code, message, reason, and when to try again."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from killrvideo.user.v1.error_reason_pb2 import ErrorReason

from killrvideo_grpc.domain import errors

DOMAIN = "killrvideo.user.v1"
RETRY_AFTER_SECONDS = 1
# Python clients refuse metadata from 8 KiB on; this many violations stay under it.
MAX_VIOLATIONS = 50
MAX_NAMED = 5

Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Row:
    """What callers see of one kind of error."""

    code: grpc.StatusCode
    message: str
    reason: str | None = None
    retry: bool = False


OWN_ACTS = {
    "role": "take the role of moderator from themselves",
    "status": "change the status of their own account",
}
INTERNAL = Row(Code.INTERNAL, "An unexpected internal server error occurred.")

TABLE: Mapping[type[errors.ServiceError], Row] = {
    errors.InvalidRequest: Row(Code.INVALID_ARGUMENT, "The request is invalid", "VALIDATION_FAILED"),
    errors.EmailAlreadyRegistered: Row(Code.ALREADY_EXISTS, "Email already registered", "EMAIL_ALREADY_REGISTERED"),
    errors.InvalidCredentials: Row(Code.UNAUTHENTICATED, "Incorrect email or password", "INVALID_CREDENTIALS"),
    errors.NotAuthenticated: Row(Code.UNAUTHENTICATED, "Not authenticated", "NOT_AUTHENTICATED"),
    errors.TokenExpired: Row(Code.UNAUTHENTICATED, "Token has expired", "TOKEN_EXPIRED"),
    errors.TokenInvalid: Row(Code.UNAUTHENTICATED, "Could not validate credentials", "TOKEN_INVALID"),
    errors.TokenSubjectInvalid: Row(Code.UNAUTHENTICATED, "Invalid token subject", "TOKEN_SUBJECT_INVALID"),
    errors.UserNotFound: Row(Code.NOT_FOUND, "User not found", "USER_NOT_FOUND"),
    errors.AccountSuspended: Row(Code.PERMISSION_DENIED, "Account is suspended", "ACCOUNT_SUSPENDED"),
    errors.NoRolesAssigned: Row(Code.PERMISSION_DENIED, "User has no roles assigned", "NO_ROLES_ASSIGNED"),
    errors.RoleRequired: Row(Code.PERMISSION_DENIED, "User does not have required roles: {roles}", "ROLE_REQUIRED"),
    errors.SessionEnded: Row(Code.UNAUTHENTICATED, "Session has ended", "SESSION_ENDED"),
    errors.RefreshTokenInvalid: Row(Code.UNAUTHENTICATED, "Please log in again", "REFRESH_TOKEN_INVALID"),
    errors.RefreshTokenExpired: Row(Code.UNAUTHENTICATED, "Please log in again", "REFRESH_TOKEN_EXPIRED"),
    errors.RefreshTokenReused: Row(Code.UNAUTHENTICATED, "Please log in again", "REFRESH_TOKEN_REUSED"),
    errors.OwnAccount: Row(Code.FAILED_PRECONDITION, "Moderators can't {act}", "OWN_ACCOUNT"),
    errors.LastModerator: Row(Code.FAILED_PRECONDITION, "There must be a moderator", "LAST_MODERATOR"),
    errors.StoreUnavailable: Row(
        Code.UNAVAILABLE, "The user store is unavailable. Try again in a moment.", "STORE_UNAVAILABLE", retry=True
    ),
    errors.Overloaded: Row(
        Code.RESOURCE_EXHAUSTED, "The service is overloaded. Try again in a moment.", "OVERLOADED", retry=True
    ),
    errors.DeadlineExceeded: Row(Code.DEADLINE_EXCEEDED, "This took too long. Try again in a moment."),
}


def to_status(error: BaseException) -> status_pb2.Status:
    """Describes an error to the caller. What is not in the table is a bug, and is described as nothing more."""
    row = _row(error)
    status = status_pb2.Status(code=row.code.value[0], message=row.message)
    if row.reason is not None:
        # Value() raises on a reason that the contract lacks.
        ErrorReason.Value(f"ERROR_REASON_{row.reason}")
        status.details.append(_packed(error_details_pb2.ErrorInfo(reason=row.reason, domain=DOMAIN)))
    if row.retry:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = RETRY_AFTER_SECONDS
        status.details.append(_packed(retry))
    if isinstance(error, errors.OwnAccount):
        status.message = row.message.format(act=OWN_ACTS[error.subject])
    if isinstance(error, errors.RoleRequired):
        status.message = row.message.format(roles=[role.value for role in error.role.sufficient])
    if isinstance(error, errors.InvalidRequest):
        status.message = _summary(error)
        status.details.append(_packed(_bad_request(error)))
    return status


def reason_of(error: BaseException) -> str | None:
    """Returns the reason that callers are given for an error, if it has one."""
    return _row(error).reason


def _row(error: BaseException) -> Row:
    return next((TABLE[kind] for kind in type(error).mro() if kind in TABLE), INTERNAL)


def _summary(error: errors.InvalidRequest) -> str:
    """Says how many fields are wrong, and of the first few how: web clients show people nothing else."""
    wrong: dict[str, str] = {}
    for violation in error.violations:
        wrong.setdefault(violation.field, violation.description)
    if "" in wrong:
        return f"The request {wrong['']}"
    named = "; ".join(f"{field} {description}" for field, description in islice(wrong.items(), MAX_NAMED))
    more = f"; and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
    return f"1 field is invalid: {named}" if len(wrong) == 1 else f"{len(wrong)} fields are invalid: {named}{more}"


def _bad_request(error: errors.InvalidRequest) -> error_details_pb2.BadRequest:
    bad_request = error_details_pb2.BadRequest()
    for violation in error.violations[:MAX_VIOLATIONS]:
        bad_request.field_violations.add(field=violation.field, description=violation.description)
    return bad_request


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
