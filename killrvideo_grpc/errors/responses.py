"""Builds the answer to an error: its entry in the error table, completed with the error's own data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from killrvideo_grpc.domain import errors
from killrvideo_grpc.domain.errors import Violation
from killrvideo_grpc.errors.table import EDGE_ERRORS, INTERNAL, OWN_ACTS, TABLE, Entry

# Headers between the edge and the service. The edge removes them from incoming requests before it sets its own.
PROBLEM_WANTED = "x-problem-wanted"
PROBLEM, PROBLEM_STATUS = "x-problem", "x-problem-status"
# Python clients refuse metadata of 8 KiB or more; this many violations stay below that.
MAX_VIOLATIONS = 50
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as the caller sees it: at most MAX_VIOLATIONS violations, and the seconds until a retry may help."""

    entry: Entry
    message: str
    violations: Sequence[Violation] = ()
    retry_seconds: int | None = None


def entry_of(error: BaseException) -> Entry:
    """Returns an error's entry in the table, or INTERNAL if it has none, which is a bug."""
    return next((TABLE[kind] for kind in type(error).mro() if kind in TABLE), INTERNAL)


def answer_to(error: BaseException) -> Answer:
    """Returns the answer to an error: its entry, completed with the data of the error."""
    entry = entry_of(error)
    match error:
        case errors.InvalidRequest():
            return Answer(entry, _summary(error), error.violations[:MAX_VIOLATIONS])
        case errors.SelfModification():
            return Answer(entry, entry.message.format(act=OWN_ACTS[error.subject]))
        case errors.RoleRequired():
            return Answer(entry, entry.message.format(roles=[role.value for role in error.role.sufficient]))
        case errors.TooManyAttempts():
            return Answer(entry, entry.message, retry_seconds=error.retry_after)
    return Answer(entry, entry.message, retry_seconds=entry.retry_seconds)


def problem(answer: Answer) -> str:
    """Returns an answer as a problem document (RFC 9457), in ASCII, without `instance`, which the edge adds."""
    members = _members(answer.entry.status, answer.message)
    if answer.entry.reason:
        members["code"] = answer.entry.reason
    if answer.violations:
        members["errors"] = [
            {"field": violation.field, "description": violation.description} for violation in answer.violations
        ]
    return _to_json(members)


def problem_headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Returns the headers from which the edge builds the HTTP response to an error."""
    headers = [(PROBLEM, problem(answer)), (PROBLEM_STATUS, str(answer.entry.status))]
    if answer.entry.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if answer.retry_seconds is not None:
        headers.append(("retry-after", str(answer.retry_seconds)))
    return tuple(headers)


def edge_problem(status: int) -> str:
    """Returns the problem document for Envoy's own responses with this HTTP status, without `instance`."""
    return _to_json(edge_members(status))


def edge_members(status: int) -> dict[str, object]:
    """Returns the members of `edge_problem`, from which Envoy can make the document itself."""
    return _members(status, EDGE_ERRORS[status].detail)


def _to_json(members: Mapping[str, object]) -> str:
    return json.dumps(members, separators=(",", ":"))


def _members(status: int, detail: str) -> dict[str, object]:
    return {"type": "about:blank", "title": EDGE_ERRORS[status].title, "status": status, "detail": detail}


def _summary(error: errors.InvalidRequest) -> str:
    """Returns how many fields are invalid, and why the first few are: web clients show people only this text."""
    wrong: dict[str, str] = {}
    for violation in error.violations:
        wrong.setdefault(violation.field, violation.description)
    if "" in wrong:
        return f"The request {wrong['']}"
    named = "; ".join(f"{field} {description}" for field, description in islice(wrong.items(), MAX_NAMED))
    more = f"; and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
    return f"1 field is invalid: {named}" if len(wrong) == 1 else f"{len(wrong)} fields are invalid: {named}{more}"
