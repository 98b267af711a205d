"""Error answers, by the codes, families and scopes of a real Data API (release 1.0.51 on Apache Cassandra 5.0)."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

_HTTP_STATUS = {"SECURITY": 401}
_HTTP_STATUS_OF_CODE = {"UNSUPPORTED_CONTENT_TYPE": 415}


class Refusal(Exception):
    """Ends a command with one error in the answer.

    The scope decides the family: `DATABASE` is what the database behind the API said and makes it `SERVER`, all else
    is `REQUEST`. Attributes are further fields of the error (`documentIds`); status is what is answered beside it.
    """

    def __init__(
        self, scope: str, code: str, message: str, *, status: Mapping[str, Any] | None = None, **attributes: Any
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.http_status = _HTTP_STATUS_OF_CODE.get(code) or _HTTP_STATUS.get(scope, 200)
        self._status = status
        self._error = error(code, scope=scope, message=message) | attributes

    def body(self) -> dict[str, Any]:
        """The whole answer, as JSON is made of it."""
        beside = {} if self._status is None else {"status": dict(self._status)}
        return {**beside, "errors": [self._error]}


def error(code: str, *, scope: str, message: str, family: str | None = None) -> dict[str, Any]:
    """One error or warning as the API writes it."""
    return {
        "id": str(uuid4()),
        "family": family or ("SERVER" if scope == "DATABASE" else "REQUEST"),
        "scope": scope,
        "errorCode": code,
        "title": code.replace("_", " ").capitalize(),
        "message": message,
    }


def unsupported_query(message: str) -> Refusal:
    """What Apache Cassandra refuses and other backends may take: family SERVER, though the request is at fault."""
    return Refusal("DATABASE", "UNSUPPORTED_DATABASE_QUERY", message)
