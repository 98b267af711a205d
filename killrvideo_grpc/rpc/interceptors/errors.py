"""The statuses of exceptions, as the error table defines them."""

import asyncio
import traceback
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NoReturn

import grpc
import structlog
from grpc import aio
from grpc_status import rpc_status

from killrvideo_grpc.domain.errors import ServiceError, StoreUnavailable
from killrvideo_grpc.errors.grpc_status import to_status
from killrvideo_grpc.errors.problem import PROBLEM_WANTED, problem_headers
from killrvideo_grpc.errors.responses import error_response
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.logging import LoggingInterceptor

_log = structlog.get_logger()


class ErrorsInterceptor:
    """Answer domain errors as the table says. All other exceptions are bugs: answer INTERNAL.

    Call `on_store_unavailable` if the store was unavailable.
    """

    runs_after: ClassVar[tuple[type, ...]] = (LoggingInterceptor,)  # which logs the code that this one sets

    def __init__(self, on_store_unavailable: Callable[[], None] = lambda: None) -> None:
        self._on_store_unavailable = on_store_unavailable

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        async def answered(call: Call) -> Any:
            try:
                return await call_next(call)
            except (aio.AbortError, aio.InternalError):
                raise  # the call has ended already
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise  # the caller hung up, or its deadline has passed
                # Something that the call awaited was cancelled, but not the call itself. grpcio would never answer it.
                failure: BaseException = error
            except Exception as error:
                failure = error
            if isinstance(failure, StoreUnavailable):
                self._on_store_unavailable()
            elif not isinstance(failure, ServiceError):
                _log_bug(failure)
            return await abort(call, failure)

        return answered


async def abort(call: Call, error: BaseException) -> NoReturn:
    """End a call with the status for `error`, keeping the trailing metadata set so far.

    Raise AbortError or, if the call has ended already, InternalError.
    """
    response, context = error_response(error), call.context
    call.reason = response.spec.reason
    if any(key == PROBLEM_WANTED for key, _ in call.metadata):
        # Replaces gRPC's error details: both together would exceed the metadata that Python clients accept.
        details: Iterable[tuple[str, str | bytes]] = problem_headers(response)
    else:
        details = rpc_status.to_status(to_status(response)).trailing_metadata
    # abort replaces the trailing metadata, which has the request id.
    trailing = (*context.trailing_metadata(), *details)
    await context.abort(grpc.StatusCode[response.spec.code], response.message, trailing)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_bug(error: BaseException) -> None:
    # Without the exception's message: it may quote what the caller sent.
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    _log.error("bug", error=type(error).__qualname__, traceback=where)
