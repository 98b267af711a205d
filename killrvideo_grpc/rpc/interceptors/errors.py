"""Turns every exception into the status that the error table defines for it."""

import asyncio
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import grpc
import structlog
from grpc import aio
from grpc_status import rpc_status

from killrvideo_grpc.domain.errors import ServiceError, StoreUnavailable
from killrvideo_grpc.domain.instrumentation import UNOBSERVED, Observer
from killrvideo_grpc.errors.grpc_status import to_status
from killrvideo_grpc.errors.responses import PROBLEM_WANTED, answer_to, entry_of, problem_headers
from killrvideo_grpc.rpc.call import Call, Context, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler

_log = structlog.get_logger("killrvideo_grpc.errors")


class ErrorsInterceptor:
    """Answers domain errors as the table says. Any other exception is a bug: it logs where, and answers INTERNAL.

    Calls `on_store_trouble` if the store was unavailable.
    """

    def __init__(self, on_store_trouble: Callable[[], None] = lambda: None, observer: Observer = UNOBSERVED) -> None:
        self._on_store_trouble = on_store_trouble
        self._observer = observer

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        async def answered(call: Call) -> Any:
            try:
                return await proceed(call)
            except aio.AbortError:
                raise  # the call already has its status
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise  # the caller hung up, or its deadline has passed
                # Something that the call awaited was cancelled, but not the call itself. grpcio would never answer it.
                failure: BaseException = error
            except Exception as error:
                failure = error
            if isinstance(failure, StoreUnavailable):
                self._on_store_trouble()
            elif not isinstance(failure, ServiceError):
                _log_bug(failure)
            if reason := entry_of(failure).reason:
                self._observer.refused(method, reason)
            return await abort(call.context, failure)

        return answered


async def abort(context: Context, error: BaseException) -> NoReturn:
    """Ends a call with the status for `error`, keeping the trailing metadata set so far. Always raises AbortError.

    For REST calls, the edge asks for a problem document. It replaces gRPC's error details, so that even 50 violations
    fit into the metadata.
    """
    answer = answer_to(error)
    if any(key == PROBLEM_WANTED for key, _ in context.invocation_metadata() or ()):
        described: Iterable[tuple[str, str | bytes]] = problem_headers(answer)
    else:
        described = rpc_status.to_status(to_status(answer)).trailing_metadata
    # abort replaces the trailing metadata, so the request id that was set before must be passed on.
    trailing = (*context.trailing_metadata(), *described)
    await context.abort(grpc.StatusCode[answer.entry.code], answer.message, trailing)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_bug(error: BaseException) -> None:
    # Without the message of the exception, which may quote what the caller sent.
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    _log.error("bug", error=type(error).__qualname__, traceback=where)
