"""Enforces the shape rules of the contract: all violations at once, by their JSON paths."""

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from killrvideo_grpc.domain.errors import InvalidRequest, Violation
from killrvideo_grpc.rpc.arrivals import Arrivals
from killrvideo_grpc.rpc.interceptors.interceptor import Behavior, Continuation, Handler, in_pool_of

Deserializer = Any


class ValidationInterceptor(grpc.ServerInterceptor):
    """Waits for the request, reads its bytes and checks them against the protovalidate rules.

    That is done here, not by grpcio, which waits without an end, answers unreadable bytes with INTERNAL, and does both
    before any check of access. So towards grpcio unary methods are ones that take a stream, of one message.
    """

    def __init__(self, arrivals: Arrivals, warm_up: Iterable[Message] = ()) -> None:
        self._arrivals = arrivals
        self._validator = protovalidate.Validator()
        for message in warm_up:  # the first check of a message compiles its rules: 9 ms that no caller should pay
            self._validator.collect_violations(message)

    def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Wraps a unary handler; leaves streams (reflection, health's Watch) alone."""
        handler = continuation(handler_call_details)
        if handler is None or not handler.unary_unary:
            return handler  # type: ignore[return-value] # grpcio takes None; its stubs do not say so
        behavior = self._checked(handler.unary_unary, handler.request_deserializer)
        return grpc.stream_unary_rpc_method_handler(
            in_pool_of(handler.unary_unary, behavior), None, handler.response_serializer
        )

    def _checked(self, behavior: Behavior, deserialize: Deserializer) -> Behavior:
        def inside(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            return behavior(self._read(self._arrivals.next(requests, context), deserialize), context)

        return inside

    def _read(self, request: bytes | None, deserialize: Deserializer) -> Message:
        if request is None:
            raise InvalidRequest([Violation("", "is missing: this method takes one message")])
        try:
            message: Message = deserialize(request)
        except DecodeError:
            raise InvalidRequest([Violation("", "is not the message that this method takes")]) from None
        violations = self._validator.collect_violations(message)
        if violations:
            raise InvalidRequest([_to_violation(violation.proto, message.DESCRIPTOR) for violation in violations])
        return message


def _to_violation(violation: Any, descriptor: Any) -> Violation:
    # protovalidate's own rules say "value is required"; what is wrong is said of the field.
    return Violation(json_path(violation.field.elements, descriptor), violation.message.removeprefix("value "))


def json_path(elements: Iterable[Any], descriptor: Any) -> str:
    """Writes a protovalidate field path as callers of the JSON mapping know it: `firstName`, `userIds[3]`."""
    path = ""
    for element in elements:
        field = descriptor.fields_by_number[element.field_number] if descriptor else None
        path += f"{'.' if path else ''}{field.json_name if field else element.field_name}"
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
        descriptor = field.message_type if field else None
    return path
