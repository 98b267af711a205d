"""Which threads a call runs on, and the refusal of more calls than they can take."""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

import grpc

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.rpc.interceptors.interceptor import (
    Behavior,
    Continuation,
    Handler,
    behavior_of,
    with_behavior,
)

LOWEST_PRIORITY = 19


class BoundedPool(ThreadPoolExecutor):
    """A thread pool that knows how many calls wait for a thread, and `is_full` from `max_waiting` on."""

    def __init__(self, name: str, threads: int, max_waiting: int, low_priority: bool = False) -> None:
        super().__init__(threads, thread_name_prefix=name, initializer=_lower_priority if low_priority else None)
        self._max_waiting = max_waiting
        self._waiting = 0
        self._count = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Says whether one more call would wait too long."""
        return self._waiting >= self._max_waiting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queues a call, as ThreadPoolExecutor does."""
        with self._count:
            self._waiting += 1
        return super().submit(self._start, fn, *args, **kwargs)

    def _start(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._count:
            self._waiting -= 1
        return fn(*args, **kwargs)


class PoolsInterceptor(grpc.ServerInterceptor):
    """Sends the methods named in `pools` to their own threads, and all others to `default`.

    A call whose pool is full is refused, on a thread that does nothing else, since the busy ones have no time for it.
    """

    def __init__(self, default: BoundedPool, pools: Mapping[str, BoundedPool]) -> None:
        self._default = default
        self._pools = pools
        self._refusals = ThreadPoolExecutor(1, thread_name_prefix="refusals")

    def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Chooses on grpcio's accept thread, from which calls are handed to pools."""
        handler = continuation(handler_call_details)
        behavior = behavior_of(handler) if handler else None
        if handler is None or behavior is None:
            return handler  # type: ignore[return-value] # grpcio takes None; its stubs do not say so
        pool = self._pools.get(handler_call_details.method, self._default)
        if pool.is_full:
            return with_behavior(handler, run_in(self._refusals, _refuse))
        return with_behavior(handler, run_in(pool, behavior))


def run_in(pool: ThreadPoolExecutor, behavior: Behavior) -> Behavior:
    """Returns the behavior marked for grpcio to run in `pool`."""

    def marked(request: Any, context: grpc.ServicerContext) -> Any:
        return behavior(request, context)

    marked.experimental_thread_pool = pool  # type: ignore[attr-defined] # grpcio's way; a method can't hold attributes
    return marked


def _refuse(request: Any, context: grpc.ServicerContext) -> NoReturn:
    raise Overloaded


def _lower_priority() -> None:
    # Linux weighs threads one by one, so hashing takes what the other calls leave.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
