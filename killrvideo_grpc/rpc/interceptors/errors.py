"""The only place that catches: every failure leaves as the status that the table has for it."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc
import structlog
from grpc_status import rpc_status

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import ServiceError, StoreUnavailable
from killrvideo_grpc.rpc.interceptors.interceptor import Interceptor
from killrvideo_grpc.rpc.status import to_status

_log = structlog.get_logger("killrvideo_grpc.errors")


class ErrorsInterceptor(Interceptor):
    """Answers domain errors from the table, and anything else as INTERNAL, logged with where it was raised.

    It also gives the call its deadline, so that whatever the call waits for can stop in time, and calls
    `on_store_trouble` when the store could not answer.
    """

    def __init__(self, on_store_trouble: Callable[[], None] = lambda: None) -> None:
        self._on_store_trouble = on_store_trouble

    @contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        try:
            with deadline.of_call(context.time_remaining(), lambda: not context.is_active()):
                yield
        except grpc.RpcError:
            raise  # the caller hung up amid a stream, and grpcio ends the call itself
        except Exception as error:
            if isinstance(error, StoreUnavailable):
                self._on_store_trouble()
            elif not isinstance(error, ServiceError):
                _log_bug(error)
            _abort(context, error)


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    status = rpc_status.to_status(to_status(error))
    # abort_with_status drops what was set before, so the request id goes along.
    kept = tuple(context.trailing_metadata() or ())
    context.abort_with_status(_Status(status.code, status.details, kept + tuple(status.trailing_metadata)))


class _Status(grpc.Status):
    def __init__(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        self.code = code
        self.details = details
        self.trailing_metadata = trailing_metadata


def _log_bug(error: Exception) -> None:
    # Where, but not what: the text of an exception may hold what the caller sent.
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    _log.error("bug", error=type(error).__qualname__, traceback=where)
