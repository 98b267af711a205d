"""What all interceptors share: work around a call, on the thread that runs the call."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import grpc

# What a handler calls: a servicer's method, or the same with interceptors around it. Generic in grpc, so Any.
Behavior = Callable[[Any, grpc.ServicerContext], Any]
# Quoted, for grpcio's class is generic in its stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Handler | None]"


class Interceptor(grpc.ServerInterceptor, ABC):
    """Runs each call inside `around`. grpcio's accept thread calls `intercept_service`, so that does no work."""

    @abstractmethod
    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """Wraps one call of the method with this path. What it raises on entry stops the call."""

    def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Wraps the handler; for a method that does not exist, leaves grpcio to answer UNIMPLEMENTED."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None  # type: ignore[return-value] # grpcio takes None; its stubs do not say so
        behavior = behavior_of(handler)
        if behavior:
            return with_behavior(handler, self._around(method, behavior))
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                in_pool_of(handler.stream_stream, self._around_stream(method, handler.stream_stream)),
                handler.request_deserializer,
                handler.response_serializer,
            )
        # What is left is health's Watch: its own code, non-blocking, and open to anyone.
        return handler

    def _around(self, method: str, behavior: Behavior) -> Behavior:
        def inside(request: Any, context: grpc.ServicerContext) -> Any:
            with self.around(method, context):
                return behavior(request, context)

        return inside

    def _around_stream(self, method: str, behavior: Behavior) -> Behavior:
        def inside(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self.around(method, context):
                yield from behavior(requests, context)

        return inside


def behavior_of(handler: Handler) -> Behavior | None:
    """Returns what gives a call's one response: from a message, or from the iterator that validation reads it from."""
    return handler.unary_unary or handler.stream_unary


def with_behavior(handler: Handler, behavior: Behavior) -> Handler:
    """Returns a handler of the same kind with another behavior, in the same pool."""
    make = grpc.unary_unary_rpc_method_handler if handler.unary_unary else grpc.stream_unary_rpc_method_handler
    marked = in_pool_of(behavior_of(handler), behavior)
    return make(marked, handler.request_deserializer, handler.response_serializer)


def in_pool_of(inner: Any, outer: Behavior) -> Behavior:
    """Marks `outer` to run in the thread pool that `inner` was marked for; grpcio looks at the outermost only."""
    pool = getattr(inner, "experimental_thread_pool", None)
    if pool is not None:
        outer.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return outer
