"""The errors of Data API requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import httpx
import structlog
from astrapy.exceptions import DataAPIHttpException, DataAPIResponseException, DataAPITimeoutException

from killrvideo_grpc.domain.errors import StoreUnavailable, UnusableStore

# A header, a URL or a text that can't be sent. A UnicodeDecodeError comes from an answer.
NOT_SENDABLE = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError)

_log = structlog.get_logger()


class AlreadyExists(Exception):
    """A document with this `_id` exists."""

    outcome = "ok"  # for the metrics: an expected answer


class RequestRefused(UnusableStore):
    """The Data API rejected a request as invalid: a bug in this service, or a changed schema."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"the Data API rejected a request ({code}); see what differs: killrvideo-grpc schema check")
        self.code = code


class RequestNotSent(UnusableStore):
    """A request can't be sent as it is: a wrong setting, or a bug in this service."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"a request to the Data API can't be sent ({cause}); check the ASTRA_DB_ settings")


class CredentialsRefused(StoreUnavailable):
    """The Data API rejected the token, or the user name and password."""

    def __init__(self) -> None:
        super().__init__(
            "the Data API rejects the credentials; check ASTRA_DB_APPLICATION_TOKEN, or ASTRA_DB_USERNAME and"
            " ASTRA_DB_PASSWORD"
        )


class Conflict(StoreUnavailable):
    """Other requests changed the document at the same moment.

    The update may have been applied: a Data API repeats one that timed out, which can conflict with itself.
    """

    outcome = "conflict"

    def __init__(self) -> None:
        super().__init__("conflict")


class AnswerLost(StoreUnavailable):
    """A write may have been applied, or may still be."""


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Translate any exception of a request into one of our errors, and log its code.

    Don't log astrapy's messages, which quote values.
    """
    try:
        yield
    except DataAPIResponseException as error:
        _raise_answer(name, error)
    except DataAPIHttpException as error:
        status = error.response.status_code
        _log.error("store failed", store="astra", request=name, cause=f"HTTP {status}")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise CredentialsRefused from None
        raise StoreUnavailable(f"HTTP {status}") from None
    except DataAPITimeoutException:
        raise_time_out(name)
    except Exception as error:
        cause = type(error).__name__
        _log.error("store failed", store="astra", request=name, cause=cause)
        if isinstance(error, NOT_SENDABLE) and not isinstance(error, UnicodeDecodeError):
            raise RequestNotSent(cause) from None
        # No connection, or an answer that was cut short or that astrapy can't parse.
        raise StoreUnavailable(cause) from None


def raise_time_out(name: str) -> NoReturn:
    """Log that a request, or a group of requests, took too long, and raise StoreUnavailable."""
    _log.error("store failed", store="astra", request=name, cause="time-out")
    raise StoreUnavailable("time-out") from None


def _raise_answer(name: str, error: DataAPIResponseException) -> NoReturn:
    found = error.error_descriptors[0] if error.error_descriptors else None
    family, code = (found.family, found.error_code) if found else (None, None)
    if code == "DOCUMENT_ALREADY_EXISTS":
        raise AlreadyExists from None
    if code == "FAILED_CONCURRENT_OPERATIONS":
        raise Conflict from None
    _log.error("store failed", store="astra", request=name, family=family, cause=code)
    if family == "REQUEST":
        raise RequestRefused(code) from None
    raise StoreUnavailable(code) from None
