"""The errors of ours that requests to the Data API end in. Only this module and data_api.py know astrapy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import httpx
import structlog
from astrapy.exceptions import DataAPIHttpException, DataAPIResponseException, DataAPITimeoutException

from killrvideo_grpc.domain.errors import StoreUnavailable, UnusableStore

_log = structlog.get_logger("killrvideo_grpc.stores.astra")


class AlreadyExists(Exception):
    """A document with this `_id` exists."""


class RequestRefused(UnusableStore):
    """The Data API calls a request of ours wrong: a bug here, or a schema that was changed. Carries its `code`."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"the Data API refuses a request ({code}); see what differs: killrvideo-grpc schema check")
        self.code = code


class CredentialsRefused(StoreUnavailable):
    """The Data API does not accept this token, or this user and password."""


class Conflict(StoreUnavailable):
    """Others changed the document at the same moment, and nothing was done."""


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turns whatever a request ends in into errors of ours, and logs its code: astrapy's own texts quote values.

    A cancellation passes.
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
        # No connection, an answer that was cut short, or one that makes no sense to astrapy.
        cause = type(error).__name__
        _log.error("store failed", store="astra", request=name, cause=cause)
        raise StoreUnavailable(cause) from None


def raise_time_out(name: str) -> NoReturn:
    """Logs that a request, or several made for one purpose, took too long, and raises StoreUnavailable."""
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
