"""Decoding of requests, and the contract's validation rules."""

import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from killrvideo_grpc.domain.errors import InvalidRequest, Violation
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.authorization import AuthorizationInterceptor
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.receive import ReceiveInterceptor

MAX_EXAMINED = 16 << 10  # bytes of a message in which fields in another encoding are looked for
# Longer texts are too long for a password in NFC too, and slow to normalize.
MAX_NORMALIZED = 1000


class ValidationInterceptor:
    """Deserialize the request, normalize passwords, and collect all violations of the protovalidate rules.

    The rules of the messages in `warm_up` are compiled at the start instead of in the first calls.
    """

    # Violations reveal the rules. Only callers who may call the method see them.
    runs_after: ClassVar[tuple[type, ...]] = (ReceiveInterceptor, AuthorizationInterceptor)

    def __init__(self, warm_up: Iterable[Message] = ()) -> None:
        for message in warm_up:
            protovalidate.collect_violations(message)

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        deserialize = handler.request_deserializer

        async def validated(call: Call) -> Any:
            call.request = self._validated(call.message, deserialize)
            return await call_next(call)

        async def streamed(call: Call) -> Any:
            call.request = self._validated_stream(call.message, deserialize)
            return await call_next(call)

        return streamed if handler.request_streaming else validated

    async def _validated_stream(self, messages: AsyncIterator[bytes], deserialize: Any) -> AsyncIterator[Message]:
        async for message in messages:
            yield self._validated(message, deserialize)

    def _validated(self, data: bytes, deserialize: Any) -> Message:
        try:
            message: Message = deserialize(data)
        except DecodeError:
            wrong = _not_utf8(data, deserialize(b"").DESCRIPTOR) if len(data) <= MAX_EXAMINED else []
            raise InvalidRequest(wrong or [Violation("", "can't be decoded as the message of this method")]) from None
        if not message.DESCRIPTOR.fields:
            return message
        _normalize_passwords(message)
        _shorten_lists(message)
        violations = protovalidate.collect_violations(message)
        if violations:
            raise InvalidRequest([_to_violation(violation.proto, message.DESCRIPTOR) for violation in violations])
        return message


def _not_utf8(data: bytes, descriptor: Any) -> list[Violation]:
    """Return a violation for each string field of an encoded message that has text in another encoding."""
    try:
        values: Any = UnknownFieldSet(Empty.FromString(data))
    except DecodeError:
        return []
    found: dict[str, Violation] = {}
    counts: Counter[int] = Counter()
    for value in values:
        field = descriptor.fields_by_number.get(value.field_number)
        if field and field.type == field.TYPE_STRING and isinstance(value.data, bytes):
            path = f"{field.json_name}[{counts[field.number]}]" if field.is_repeated else field.json_name
            counts[field.number] += 1
            try:
                value.data.decode()
            except UnicodeDecodeError:
                found.setdefault(field.json_name, Violation(path, "must be in UTF-8"))
    return list(found.values())


def _shorten_lists(message: Message) -> None:
    """Cut lists to one element more than the contract allows. The rules are checked for each element that is left."""
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated and (most := field.GetOptions().Extensions[validate_pb2.field].repeated.max_items):
            del getattr(message, field.name)[most + 1 :]


def _normalize_passwords(message: Message) -> None:
    """Put the fields named `…password` into NFC: keyboards type é as one character or as two."""
    for field in message.DESCRIPTOR.fields:
        if field.name.endswith("password"):
            text = getattr(message, field.name)
            if not text.isascii() and len(text) <= MAX_NORMALIZED:
                setattr(message, field.name, unicodedata.normalize("NFC", text))


def _to_violation(violation: Any, descriptor: Any) -> Violation:
    # protovalidate's messages begin with "value", as in "value is required". Here the field's name takes its place.
    return Violation(json_path(violation.field.elements, descriptor), violation.message.removeprefix("value "))


def json_path(elements: Iterable[Any], descriptor: Any) -> str:
    """Return a protovalidate field path with the names of the JSON mapping, such as `firstName` or `userIds[3]`."""
    path = ""
    for element in elements:
        field = descriptor.fields_by_number[element.field_number] if descriptor else None
        path += f"{'.' if path else ''}{field.json_name if field else element.field_name}"
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
        descriptor = field.message_type if field else None
    return path
