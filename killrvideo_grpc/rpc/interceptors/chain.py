"""Runs all interceptors as one gRPC interceptor that wraps each method once, not once a call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import grpc
import structlog
from grpc import aio

from killrvideo_grpc.rpc.call import Call, Context, Next, current_call

_log = structlog.get_logger("killrvideo_grpc.calls")

Handler = Any  # grpc.RpcMethodHandler, which is generic in grpcio's stubs and a plain class at run time


class Interceptor(Protocol):
    """One step of the chain."""

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        """Returns `proceed` with this step around it, for the method with this path (`/package.Service/Method`)."""


class InterceptorChain(aio.ServerInterceptor):
    """The interceptors in their order, the outermost first.

    Towards grpcio every method takes a stream of bytes, from which validation reads the one message. If grpcio read it,
    it would wait for ever for a message that doesn't come, answer undecodable bytes with the text of an exception, and
    do both before any check of access.
    """

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._interceptors = interceptors
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Returns the wrapped handler; for a method that doesn't exist, lets grpcio answer UNIMPLEMENTED."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                # A path meant for REST may have a secret behind a question mark.
                _log.info("call", method=ascii(method.partition("?")[0][:200]), code="UNIMPLEMENTED")
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        proceed = _innermost(handler)
        for interceptor in reversed(self._interceptors):
            proceed = interceptor.wrap(method, handler, proceed)

        async def run(messages: object, context: Context) -> Any:
            call = Call(context, tuple(context.invocation_metadata() or ()))
            current_call.set(call)
            return await proceed(call)

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(run, None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(run, None, handler.response_serializer)


def _innermost(handler: Handler) -> Next:
    """Calls the servicer's method. Methods that stream answer through the context, and return nothing."""
    behavior = handler.unary_unary or handler.unary_stream or handler.stream_stream

    async def answer(call: Call) -> Any:
        return await behavior(call.request, call.context)

    return answer
