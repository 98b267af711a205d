"""Runs all interceptors as one gRPC interceptor that wraps each method once, not once a call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, Protocol

import grpc
from grpc import aio

from killrvideo_grpc.rpc.call import Call, Context, Next, current_call

Handler = Any  # grpc.RpcMethodHandler, which is generic in grpcio's stubs and a plain class at run time


class Interceptor(Protocol):
    """One step of the chain."""

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        """Returns `proceed` with this step around it, for the method with this path (`/package.Service/Method`).

        Without a handler the method doesn't exist, and its name is the caller's.
        """


class InterceptorChain(aio.ServerInterceptor):
    """The interceptors in their order, the outermost first. Those that only observe see calls of unknown methods too.

    Towards grpcio every method takes a stream of bytes, from which validation reads the one message. If grpcio read it,
    it would wait for ever for a message that doesn't come, answer undecodable bytes with the text of an exception, and
    do both before any check of access.
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
        """Returns the wrapped handler; for a method that doesn't exist, one that answers UNIMPLEMENTED."""
        # The handler runs in the same task. Its context would make the metadata anew, from C.
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
        # A path meant for REST may have a secret behind a question mark.
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
    # abort replaces what was set before, so the request id has to go along.
    trailing = tuple(call.context.trailing_metadata())
    await call.context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", trailing)


def _innermost(handler: Handler) -> Next:
    """Calls the servicer's method. Methods that stream answer through the context, and return nothing."""
    behavior = handler.unary_unary or handler.unary_stream or handler.stream_stream

    def answer(call: Call) -> Awaitable[Any]:
        response: Awaitable[Any] = behavior(call.request, call.context)
        return response

    return answer
