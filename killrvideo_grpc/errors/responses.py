"""The response to an error: its entry in the error table, completed with the error's own data."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from killrvideo_grpc.domain import errors
from killrvideo_grpc.domain.errors import Violation
from killrvideo_grpc.errors.table import INTERNAL, SELF_ACTIONS, TABLE, ErrorSpec

MAX_VIOLATIONS = 50  # Python clients refuse metadata of 8 KiB or more; this many violations stay below that
MAX_NAMED_FIELDS = 5


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error as the caller sees it, with at most MAX_VIOLATIONS violations."""

    spec: ErrorSpec
    message: str
    violations: Sequence[Violation] = ()
    retry_seconds: int | None = None


def error_response(error: BaseException) -> ErrorResponse:
    """Return the response to an error. One that isn't in the table is a bug, and gets INTERNAL."""
    spec = next((TABLE[kind] for kind in type(error).mro() if kind in TABLE), INTERNAL)
    match error:
        case errors.InvalidRequest():
            return ErrorResponse(spec, _summary(error), error.violations[:MAX_VIOLATIONS])
        case errors.SelfModification():
            return ErrorResponse(spec, spec.message.format(action=SELF_ACTIONS[error.subject]))
        case errors.RoleRequired():
            return ErrorResponse(spec, spec.message.format(roles=[role.value for role in error.role.sufficient]))
        case errors.GrantRequired():
            return ErrorResponse(spec, spec.message.format(need=_need(error)))
        case errors.TooManyAttempts():
            return ErrorResponse(spec, spec.message, retry_seconds=error.retry_after)
    return ErrorResponse(spec, spec.message, retry_seconds=spec.retry_seconds)


def _need(error: errors.GrantRequired) -> str:
    if error.grant is None:
        return "Only people can do this, not services"
    return f"Only services with the grant {error.grant} can do this"


def _summary(error: errors.InvalidRequest) -> str:
    """Return how many fields are invalid, and why the first few are: web clients show people only this text."""
    invalid: dict[str, str] = {}
    for violation in error.violations:
        invalid.setdefault(violation.field, violation.description)
    if "" in invalid:
        return f"The request {invalid['']}"
    named = "; ".join(f"{field} {description}" for field, description in islice(invalid.items(), MAX_NAMED_FIELDS))
    more = f"; and {len(invalid) - MAX_NAMED_FIELDS} more" if len(invalid) > MAX_NAMED_FIELDS else ""
    count = "1 field is" if len(invalid) == 1 else f"{len(invalid)} fields are"
    return f"{count} invalid: {named}{more}"
