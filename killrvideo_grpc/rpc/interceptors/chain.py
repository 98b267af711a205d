"""Runs all interceptors as a single gRPC interceptor, which wraps each method once instead of once per call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, Protocol

import grpc
from grpc import aio

from killrvideo_grpc.rpc.call import Call, Context, Next, current_call

Handler = Any  # grpc.RpcMethodHandler, which is generic in grpcio's type stubs but not at run time


class Interceptor(Protocol):
    """One step of the chain."""

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        """Returns `proceed` wrapped in this step, for the method with this path (`/package.Service/Method`).

        If `handler` is None, the method doesn't exist, and `method` is text that the caller chose.
        """


class InterceptorChain(aio.ServerInterceptor):
    """Runs interceptors, outermost first. The `observing` ones also see calls of unknown methods.

    All methods are declared to grpcio as taking a stream of bytes, and validation reads the message from it. If grpcio
    read the message, it would wait forever for one that never comes, answer undecodable bytes with the text of an
    exception, and do both before access is checked.
    """

    def __init__(self, observing: Sequence[Interceptor], deciding: Sequence[Interceptor] = ()) -> None:
        self._observing = observing
        self._interceptors = [*observing, *deciding]
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Returns the wrapped handler or, for a method that doesn't exist, a handler that answers UNIMPLEMENTED."""
        # The handler runs in the same task, so it can read this variable. Reading the metadata from its context instead
        # would convert it from C a second time.
        current_call.set(Call(tuple(handler_call_details.invocation_metadata)))
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return self._unimplemented(method)
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        proceed = _innermost(handler)
        for interceptor in reversed(self._interceptors):
            proceed = interceptor.wrap(method, handler, proceed)

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(_runner(proceed), None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(_runner(proceed), None, handler.response_serializer)

    def _unimplemented(self, method: str) -> Handler:
        # A path that was meant for REST may have a query string with a secret.
        name = ascii(method.partition("?")[0][:200])
        proceed: Next = _refuse
        for interceptor in reversed(self._observing):
            proceed = interceptor.wrap(name, None, proceed)
        return grpc.stream_unary_rpc_method_handler(_runner(proceed))


def _runner(proceed: Next) -> Callable[[object, Context], Awaitable[Any]]:
    async def run(messages: object, context: Context) -> Any:
        call = current_call.get()
        call.context = context
        return await proceed(call)

    return run


async def _refuse(call: Call) -> NoReturn:
    # abort replaces the trailing metadata, so the request id that was set before must be passed on.
    trailing = tuple(call.context.trailing_metadata())
    await call.context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", trailing)


def _innermost(handler: Handler) -> Next:
    """Returns a step that calls the servicer's method. Streaming methods write to the context and return nothing."""
    behavior = handler.unary_unary or handler.unary_stream or handler.stream_stream

    def answer(call: Call) -> Awaitable[Any]:
        response: Awaitable[Any] = behavior(call.request, call.context)
        return response

    return answer
