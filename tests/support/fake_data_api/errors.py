"""Errors by the codes, families and scopes of a real Data API (release 1.0.51 on Apache Cassandra 5.0)."""

from typing import Any
from uuid import uuid4

Answer = dict[str, Any]


class Refusal(Exception):
    """Ends a command with an error.

    `status` is answered beside the error; `attributes` are further fields of the error (`documentIds`).
    """

    def __init__(
        self, scope: str, code: str, message: str, *, status: dict[str, Any] | None = None, **attributes: Any
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.error = error(scope, code, message) | attributes
        self.http_status = 401 if scope == "SECURITY" else 200
        self.body: Answer = ({"status": status} if status else {}) | {"errors": [self.error]}


def error(scope: str, code: str, message: str, family: str | None = None) -> dict[str, Any]:
    """Return an error or a warning as the API writes it. Errors of the database are SERVER, others REQUEST."""
    return {
        "id": str(uuid4()),
        "family": family or ("SERVER" if scope == "DATABASE" else "REQUEST"),
        "scope": scope,
        "errorCode": code,
        "title": code.replace("_", " ").capitalize(),
        "message": message,
    }


def unsupported_query(message: str, status: dict[str, Any] | None = None) -> Refusal:
    """Return the error for what Apache Cassandra refuses and other databases may take: SERVER, as a real one."""
    return Refusal("DATABASE", "UNSUPPORTED_DATABASE_QUERY", message, status=status)
