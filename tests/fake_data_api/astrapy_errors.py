"""What astrapy 2.3 raises for each kind of fault, whatever the method that was called."""

from dataclasses import dataclass

import httpx
from astrapy.exceptions import (
    DataAPIHttpException,
    DataAPIResponseException,
    UnexpectedDataAPIResponseException,
)

from tests.support.fake_data_api.faults import Close, ErrorAnswer, Garbage, HttpStatus, Kind, Truncate


@dataclass(frozen=True)
class Raised:
    """The class of an exception, the HTTP status in it, and the code and family of the API's error in it."""

    type: type[Exception]
    status: int | None = None
    code: str | None = None
    family: str | None = None


def describe(error: Exception) -> Raised:
    status = error.response.status_code if isinstance(error, DataAPIHttpException) else None
    descriptors = getattr(error, "error_descriptors", [])
    if not descriptors:
        return Raised(type(error), status)
    return Raised(type(error), status, descriptors[0].error_code, descriptors[0].family)


WHAT_ASTRAPY_RAISES: list[tuple[Kind, Raised]] = [
    (Close(), Raised(httpx.RemoteProtocolError)),
    (Close(reset=True), Raised(httpx.ReadError)),
    (Truncate(), Raised(httpx.RemoteProtocolError)),
    (Garbage(), Raised(UnexpectedDataAPIResponseException)),
    (Garbage(b""), Raised(UnexpectedDataAPIResponseException)),
    (Garbage(b"{}"), Raised(UnexpectedDataAPIResponseException)),
    (Garbage(b"null"), Raised(AttributeError)),
    (Garbage(b"[]"), Raised(AttributeError)),
    (
        HttpStatus(401, "UNAUTHENTICATED_REQUEST"),
        Raised(DataAPIHttpException, 401, "UNAUTHENTICATED_REQUEST", "REQUEST"),
    ),
    (HttpStatus(500, "INTERNAL", "SERVER"), Raised(DataAPIHttpException, 500, "INTERNAL", "SERVER")),
    *((HttpStatus(status), Raised(DataAPIHttpException, status)) for status in (403, 429, 500, 502, 503)),
    *(
        (ErrorAnswer(code), Raised(DataAPIResponseException, code=code, family="SERVER"))
        for code in ("FAILED_CONCURRENT_OPERATIONS", "FAILED_TO_CONNECT_TO_DATABASE", "UNEXPECTED_DRIVER_ERROR")
    ),
    (
        ErrorAnswer("INVALID_COLUMN_VALUES", "REQUEST", "DOCUMENT"),
        Raised(DataAPIResponseException, code="INVALID_COLUMN_VALUES", family="REQUEST"),
    ),
]
