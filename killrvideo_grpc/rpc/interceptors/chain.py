"""All interceptors as a single gRPC interceptor, which wraps each method once instead of once per call."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, NoReturn, Protocol

import grpc
from grpc import aio

from killrvideo_grpc.rpc.call import Call, CallNext, Context, current_call

Handler = Any  # grpc.RpcMethodHandler is generic only in grpcio's type stubs


class Interceptor(Protocol):
    """One step of the chain. Steps of the types in `runs_after` must stand before it."""

    runs_after: ClassVar[tuple[type, ...]]

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        """Return `call_next` wrapped in this step, for the method with this path (`/package.Service/Method`).

        If `handler` is None, the method doesn't exist, and `method` is text that the caller chose.
        """


class InterceptorChain(aio.ServerInterceptor):
    """Interceptors, outermost first. Those in `for_all_methods` also see calls of unknown methods.

    All methods are declared to grpcio as taking a stream of bytes, which ReceiveInterceptor reads: see decisions.md.
    Raise ValueError if the order breaks a rule in `runs_after`.
    """

    def __init__(self, for_all_methods: Sequence[Interceptor], for_known_methods: Sequence[Interceptor] = ()) -> None:
        _check_order([*for_all_methods, *for_known_methods])
        self._for_all_methods = for_all_methods
        self._for_known_methods = for_known_methods
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the wrapped handler or, for a method that doesn't exist, a handler that answers UNIMPLEMENTED."""
        # The handler runs in the same task and reads this. The call's context would convert the metadata from C again.
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
        call_next = _servicer_method(handler)
        for interceptor in reversed(self._for_known_methods):
            call_next = interceptor.wrap(method, handler, call_next)
        run = self._runner(method, handler, call_next)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(run, None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(run, None, handler.response_serializer)

    def _unimplemented(self, method: str) -> Handler:
        # A path that was meant for REST may have a query string with a secret.
        name = ascii(method.partition("?")[0][:200])
        return grpc.stream_unary_rpc_method_handler(self._runner(name, None, _reject_unknown))

    def _runner(
        self, method: str, handler: Handler, call_next: CallNext
    ) -> Callable[[object, Context], Awaitable[Any]]:
        call_next = _with_code(call_next)
        for interceptor in reversed(self._for_all_methods):
            call_next = interceptor.wrap(method, handler, call_next)

        async def run(messages: object, context: Context) -> Any:
            call = current_call.get()
            call.context = context
            return await call_next(call)

        return run


def _check_order(interceptors: Sequence[Interceptor]) -> None:
    for position, interceptor in enumerate(interceptors):
        for later in interceptors[position + 1 :]:
            if isinstance(later, interceptor.runs_after):
                names = type(interceptor).__name__, type(later).__name__
                raise ValueError("{} must run after {}".format(*names))  # noqa: TRY004 # the order is wrong, not a type


def _with_code(call_next: CallNext) -> CallNext:
    """Set the call's code when it ends."""

    async def ended(call: Call) -> Any:
        try:
            return await call_next(call)
        except (asyncio.CancelledError, aio.InternalError):
            call.code = "DEADLINE_EXCEEDED" if call.context.time_remaining() == 0 else "CANCELLED"
            raise
        finally:
            if code := call.context.code():
                call.code = code.name

    return ended


async def _reject_unknown(call: Call) -> NoReturn:
    # abort replaces the trailing metadata, which has the request id.
    trailing = tuple(call.context.trailing_metadata())
    await call.context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", trailing)


def _servicer_method(handler: Handler) -> CallNext:
    """Return a step that calls the servicer's method. Streaming methods write to the context and return nothing."""
    behavior = handler.unary_unary or handler.unary_stream or handler.stream_stream

    def call_servicer(call: Call) -> Awaitable[Any]:
        response: Awaitable[Any] = behavior(call.request, call.context)
        return response

    return call_servicer
