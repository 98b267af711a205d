"""Column types of a table: how they are written in definitions, what they take, and how they are read back."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.support.data_api.refusals import Refusal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class Misfit(ValueError):
    """A JSON value that its column does not take."""


@dataclass(frozen=True)
class ColumnType:
    """A scalar, or a set of one. `listed` is how the API describes it; foreign types are listed and no more."""

    name: str
    member: str | None
    listed: dict[str, Any]

    @property
    def is_set(self) -> bool:
        return self.name == "set"


def read_type(definition: Any) -> ColumnType:
    """The type of a column from `"text"`, `{"type": "text"}` or `{"type": "set", "valueType": …}`. Raises Refusal."""
    described = {"type": definition} if isinstance(definition, str) else definition
    if not isinstance(described, dict):
        raise Refusal("SCHEMA", "COLUMN_TYPE_INCORRECT", f"{definition!r} is not a type")
    if described.get("type") == "set" and described.keys() == {"type", "valueType"}:
        member = read_type(described["valueType"])
        if not member.is_set:
            return ColumnType("set", member.name, {"type": "set", "valueType": member.name})
    name = described.get("type")
    if described.keys() != {"type"} or name not in _TO_STORED:
        raise Refusal("SCHEMA", "UNKNOWN_PRIMITIVE_DATA_TYPE", f"{definition!r} is not a type that the stand-in knows")
    return ColumnType(name, None, {"type": name})


def foreign_type(listed: dict[str, Any]) -> ColumnType:
    """A column that was there before, of a type that the stand-in can list and neither read nor write."""
    return ColumnType("UNSUPPORTED", None, listed)


def to_stored(column: ColumnType, value: Any) -> Any:
    """A JSON value as it is kept; None is no value, and so is an empty set. Raises Misfit or ValueError."""
    if value is None:
        return None
    if not column.is_set:
        return _scalar(column.name, value)
    if not isinstance(value, list):
        raise Misfit("a set is written as an array")
    return members_to_stored(column, value) or None


def members_to_stored(column: ColumnType, values: list[Any]) -> frozenset[Any]:
    """Members of a set, as they are kept. Raises Misfit or ValueError."""
    if column.member is None:
        raise Misfit("not a set")
    return frozenset(_scalar(column.member, value) for value in values)


def to_answer(column: ColumnType, stored: Any) -> Any:
    """A kept value as the API answers it: sets sorted by their bytes, timestamps in UTC."""
    if not column.is_set:
        return _from_stored(column.name, stored)
    members = sorted(stored, key=lambda member: member.encode() if isinstance(member, str) else member)
    return [_from_stored(column.member or "", member) for member in members]


def _scalar(name: str, value: Any) -> Any:
    if name not in _TO_STORED:
        raise Misfit(f"{name} can't be written")
    return _TO_STORED[name](value)


def _from_stored(name: str, stored: Any) -> Any:
    return _instant_text(stored) if name == "timestamp" else stored


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Misfit("not a string")
    return value


def _ascii(value: Any) -> str:
    if not _text(value).isascii():
        raise Misfit("not ASCII")
    return str(value)


def _uuid(value: Any) -> str:
    text = str(UUID(_text(value)))
    if text != value.lower():
        raise Misfit("not a UUID in its canonical form")
    return text


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Misfit("not a boolean")
    return value


def _integer(bits: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise Misfit(f"not an integer of {bits} bits")
        return value

    return check


def _double(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Misfit("not a number")
    return float(value)


def _timestamp(value: Any) -> int:
    """Milliseconds since the epoch: what is finer is cut off, as Cassandra does."""
    if not _INSTANT.fullmatch(_text(value)):
        raise Misfit("not an ISO instant")
    return (datetime.fromisoformat(value) - _EPOCH) // timedelta(milliseconds=1)


def _instant_text(millis: int) -> str:
    """As Java writes an instant: milliseconds only where there are any."""
    moment = _EPOCH + timedelta(milliseconds=millis)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{millis % 1000:03d}Z" if millis % 1000 else "Z")


_TO_STORED: dict[str, Callable[[Any], Any]] = {
    "ascii": _ascii,
    "bigint": _integer(64),
    "boolean": _boolean,
    "double": _double,
    "int": _integer(32),
    "text": _text,
    "timestamp": _timestamp,
    "uuid": _uuid,
}
