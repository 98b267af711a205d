"""The table of errors: what callers see of each error, over gRPC and over REST.

The responses of the service and of Envoy, Envoy's Lua and the OpenAPI document are all generated from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from killrvideo_grpc.domain import errors

RETRY_SECONDS = 1

Code = Literal[
    "ALREADY_EXISTS",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
]


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """What callers see of one kind of error that the service itself returns.

    Placeholders in `message` are filled in from the error. Over REST, `message` becomes the problem's `detail` and
    `reason` its `code`.
    """

    code: Code
    status: int  # of HTTP
    message: str
    reason: str | None = None
    retry_seconds: int | None = None  # after which a retry may help


@dataclass(frozen=True, slots=True)
class EdgeError:
    """What callers see of an error that Envoy, the edge, answers itself. Such errors have no reason.

    The service's own problems with this HTTP status have the same `title`. gRPC callers get `grpc_message` or, without
    one, `detail`.
    """

    title: str
    code: Code
    detail: str
    grpc_message: str | None = None


SELF_ACTIONS = {
    "role": "revoke their own moderator role",
    "status": "change the status of their own account",
}

INTERNAL = ErrorSpec("INTERNAL", 500, "An unexpected internal server error occurred.")

TABLE: Mapping[type[errors.ServiceError], ErrorSpec] = {
    errors.InvalidRequest: ErrorSpec("INVALID_ARGUMENT", 422, "The request is invalid", "VALIDATION_FAILED"),
    errors.EmailAlreadyRegistered: ErrorSpec(
        "ALREADY_EXISTS", 400, "Email already registered", "EMAIL_ALREADY_REGISTERED"
    ),
    errors.InvalidCredentials: ErrorSpec("UNAUTHENTICATED", 401, "Incorrect email or password", "INVALID_CREDENTIALS"),
    errors.InvalidResetCode: ErrorSpec("UNAUTHENTICATED", 401, "This code is not valid any more", "INVALID_RESET_CODE"),
    errors.OperatorsOnly: ErrorSpec(
        "PERMISSION_DENIED", 403, "Only an operator, at the command line, can reset a moderator's password"
    ),
    errors.NotAuthenticated: ErrorSpec("UNAUTHENTICATED", 401, "Not authenticated", "NOT_AUTHENTICATED"),
    errors.TokenExpired: ErrorSpec("UNAUTHENTICATED", 401, "Token has expired", "TOKEN_EXPIRED"),
    errors.TokenInvalid: ErrorSpec("UNAUTHENTICATED", 401, "Could not validate credentials", "TOKEN_INVALID"),
    errors.TokenSubjectInvalid: ErrorSpec("UNAUTHENTICATED", 401, "Invalid token subject", "TOKEN_SUBJECT_INVALID"),
    errors.SessionEnded: ErrorSpec("UNAUTHENTICATED", 401, "Session has ended", "SESSION_ENDED"),
    errors.RefreshTokenInvalid: ErrorSpec("UNAUTHENTICATED", 401, "Please log in again", "REFRESH_TOKEN_INVALID"),
    errors.RefreshTokenExpired: ErrorSpec("UNAUTHENTICATED", 401, "Please log in again", "REFRESH_TOKEN_EXPIRED"),
    errors.RefreshTokenReused: ErrorSpec("UNAUTHENTICATED", 401, "Please log in again", "REFRESH_TOKEN_REUSED"),
    errors.UserNotFound: ErrorSpec("NOT_FOUND", 404, "User not found", "USER_NOT_FOUND"),
    errors.AccountSuspended: ErrorSpec("PERMISSION_DENIED", 403, "Account is suspended", "ACCOUNT_SUSPENDED"),
    errors.NoRolesAssigned: ErrorSpec("PERMISSION_DENIED", 403, "User has no roles assigned", "NO_ROLES_ASSIGNED"),
    # KillrVideo's clients know this text, although any one of the listed roles is enough.
    errors.RoleRequired: ErrorSpec(
        "PERMISSION_DENIED", 403, "User does not have required roles: {roles}", "ROLE_REQUIRED"
    ),
    errors.GrantRequired: ErrorSpec("PERMISSION_DENIED", 403, "{need}", "GRANT_REQUIRED"),
    errors.SelfModification: ErrorSpec("FAILED_PRECONDITION", 400, "Moderators can't {action}", "OWN_ACCOUNT"),
    # KillrVideo's clients know this text.
    errors.LastModerator: ErrorSpec("FAILED_PRECONDITION", 400, "There must be a moderator", "LAST_MODERATOR"),
    # No retry_seconds: the error itself knows when to try again.
    errors.TooManyAttempts: ErrorSpec(
        "RESOURCE_EXHAUSTED", 429, "Too many attempts. Try again later.", "TOO_MANY_ATTEMPTS"
    ),
    errors.StoreUnavailable: ErrorSpec(
        "UNAVAILABLE", 503, "The user store is unavailable. Try again in a moment.", "STORE_UNAVAILABLE", RETRY_SECONDS
    ),
    errors.Overloaded: ErrorSpec(
        "RESOURCE_EXHAUSTED", 429, "The service is overloaded. Try again in a moment.", "OVERLOADED", RETRY_SECONDS
    ),
    errors.DeadlineExceeded: ErrorSpec("DEADLINE_EXCEEDED", 504, "This took too long. Try again in a moment."),
}

EDGE_ERRORS: Mapping[int, EdgeError] = {
    400: EdgeError(
        "Bad Request",
        "INVALID_ARGUMENT",
        "The request is malformed: check its JSON, path and query.",
        "The request is malformed.",
    ),
    401: EdgeError("Unauthorized", "UNAUTHENTICATED", TABLE[errors.NotAuthenticated].message),
    403: EdgeError("Forbidden", "PERMISSION_DENIED", "This is not allowed."),
    404: EdgeError("Not Found", "UNIMPLEMENTED", "There is nothing at this path."),
    405: EdgeError(
        "Method Not Allowed",
        "UNIMPLEMENTED",
        "This path does not support this method. The Allow header lists the methods that it supports.",
    ),
    408: EdgeError("Request Timeout", "DEADLINE_EXCEEDED", "The request did not arrive in time."),
    413: EdgeError(
        "Content Too Large",
        "RESOURCE_EXHAUSTED",
        "The body is larger than 64 KiB.",
        "The message is larger than 64 KiB.",
    ),
    415: EdgeError(
        "Unsupported Media Type",
        "INVALID_ARGUMENT",
        "The body must be uncompressed JSON with the content type application/json.",
    ),
    422: EdgeError("Unprocessable Content", "INVALID_ARGUMENT", "The request is invalid."),
    426: EdgeError("Upgrade Required", "UNIMPLEMENTED", "Unsupported protocol."),
    429: EdgeError("Too Many Requests", "RESOURCE_EXHAUSTED", TABLE[errors.Overloaded].message),
    431: EdgeError(
        "Request Header Fields Too Large",
        "RESOURCE_EXHAUSTED",
        "There are more than 16 KiB of headers, or too many.",
        "The metadata is larger than 63 KiB.",
    ),
    500: EdgeError("Internal Server Error", "INTERNAL", INTERNAL.message),
    501: EdgeError(
        "Not Implemented",
        "UNIMPLEMENTED",
        "This is not implemented.",
        "Unsupported compression: only gzip and deflate are supported.",
    ),
    502: EdgeError("Bad Gateway", "UNAVAILABLE", "The service sent an invalid response."),
    503: EdgeError("Service Unavailable", "UNAVAILABLE", "The service is unavailable. Try again in a moment."),
    504: EdgeError("Gateway Timeout", "DEADLINE_EXCEEDED", TABLE[errors.DeadlineExceeded].message),
}
