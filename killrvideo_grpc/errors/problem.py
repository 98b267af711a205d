"""Problem documents (RFC 9457), in ASCII: the service's, which it sends to the edge in headers, and the edge's own.

The edge adds `instance`.
"""

import json
from collections.abc import Mapping

from killrvideo_grpc.errors.responses import ErrorResponse
from killrvideo_grpc.errors.table import EDGE_ERRORS

# Headers between the edge and the service. The edge removes them from incoming requests before it sets its own.
PROBLEM_WANTED = "x-problem-wanted"
PROBLEM, PROBLEM_STATUS = "x-problem", "x-problem-status"


def problem(response: ErrorResponse) -> str:
    """Return the problem document of a response."""
    members = _members(response.spec.status, response.message)
    if response.spec.reason:
        members["code"] = response.spec.reason
    if response.violations:
        members["errors"] = [
            {"field": violation.field, "description": violation.description} for violation in response.violations
        ]
    return _to_json(members)


def problem_headers(response: ErrorResponse) -> tuple[tuple[str, str], ...]:
    """Return the headers from which the edge builds the HTTP response to an error."""
    headers = [(PROBLEM, problem(response)), (PROBLEM_STATUS, str(response.spec.status))]
    if response.spec.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if response.retry_seconds is not None:
        headers.append(("retry-after", str(response.retry_seconds)))
    return tuple(headers)


def edge_problem(status: int, detail: str | None = None) -> str:
    """Return the problem document for Envoy's own responses with this HTTP status."""
    return _to_json(edge_members(status) | ({"detail": detail} if detail else {}))


def edge_members(status: int) -> dict[str, object]:
    """Return the members of `edge_problem`, from which Envoy can make the document itself."""
    return _members(status, EDGE_ERRORS[status].detail)


def _to_json(members: Mapping[str, object]) -> str:
    return json.dumps(members, separators=(",", ":"))


def _members(status: int, detail: str) -> dict[str, object]:
    return {"type": "about:blank", "title": EDGE_ERRORS[status].title, "status": status, "detail": detail}
