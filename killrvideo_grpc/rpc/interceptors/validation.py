"""Reads the request and enforces the contract's shape rules. Collects all violations, with their JSON paths."""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from killrvideo_grpc.domain.errors import InvalidRequest, Violation
from killrvideo_grpc.rpc.call import Call, Context, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.receive import Arrivals

REFUSAL_SECONDS = 0.05  # ample time for grpcio to cancel a call whose message it refused


class ValidationInterceptor:
    """Waits for the request's bytes, deserializes them and checks them against the protovalidate rules.

    Methods that take a stream (reflection) get an iterator over their messages instead.
    """

    def __init__(self, arrivals: Arrivals, warm_up: Iterable[Message] = ()) -> None:
        self._arrivals = arrivals
        self._validator = protovalidate.Validator()
        for message in warm_up:  # checking a message type for the first time compiles its rules, which takes 9 ms
            self._validator.collect_violations(message)

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        deserialize = handler.request_deserializer

        async def validated(call: Call) -> Any:
            message = await self._receive(call)
            if message is None:
                await _raise_if_too_large(call.context)
                raise InvalidRequest([Violation("", "is missing: this method takes one message")])
            call.request = self._check(message, deserialize)
            return await proceed(call)

        async def streamed(call: Call) -> Any:
            async def messages() -> Any:
                while (message := await self._receive(call)) is not None:
                    yield self._check(message, deserialize)

            call.request = messages()
            return await proceed(call)

        return streamed if handler.request_streaming else validated

    async def _receive(self, call: Call) -> bytes | None:
        if call.admission is None:
            return await self._arrivals.next(call.context)
        call.admission.release(call)
        message = await self._arrivals.next(call.context)
        if message is not None:  # callers that hang up without a message need no place
            call.admission.take(call)
        return message

    def _check(self, request: bytes, deserialize: Any) -> Message:
        try:
            message: Message = deserialize(request)
        except DecodeError:
            raise InvalidRequest([Violation("", "can't be decoded as the message of this method")]) from None
        if not message.DESCRIPTOR.fields:
            return message  # without fields there are no rules to check
        violations = self._validator.collect_violations(message)
        if violations:
            raise InvalidRequest([_to_violation(violation.proto, message.DESCRIPTOR) for violation in violations])
        return message


async def _raise_if_too_large(context: Context) -> None:
    """Raises CancelledError if grpcio refused the message as too large, which at first looks as if none had come."""
    try:
        await asyncio.sleep(REFUSAL_SECONDS)
    except asyncio.CancelledError:
        context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)  # only for the log: the caller already has the status
        raise


def _to_violation(violation: Any, descriptor: Any) -> Violation:
    # protovalidate's messages begin with "value", as in "value is required". Here the field's name takes its place.
    return Violation(json_path(violation.field.elements, descriptor), violation.message.removeprefix("value "))


def json_path(elements: Iterable[Any], descriptor: Any) -> str:
    """Returns a protovalidate field path with the names of the JSON mapping, such as `firstName` or `userIds[3]`."""
    path = ""
    for element in elements:
        field = descriptor.fields_by_number[element.field_number] if descriptor else None
        path += f"{'.' if path else ''}{field.json_name if field else element.field_name}"
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
        descriptor = field.message_type if field else None
    return path
