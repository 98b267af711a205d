"""Columns of a table: their types as definitions write them, and the values that they take."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tests.support.fake_data_api.errors import Refusal

# As the API lists it: {"type": "text"}, {"type": "set", "valueType": "text"}, or a type that the fake only lists.
Column = dict[str, Any]


def read_column(definition: Any) -> Column:
    """Return a column from `"text"`, `{"type": "text"}` or `{"type": "set", "valueType": …}`. Raise Refusal."""
    match {"type": definition} if isinstance(definition, str) else definition:
        case {"type": "set", "valueType": member, **others} if not others:
            scalar = read_column(member)
            if scalar["type"] != "set":
                return {"type": "set", "valueType": scalar["type"]}
        case {"type": str(name), **others} if name in _SCALARS and not others:
            return {"type": name}
    raise Refusal("SCHEMA", "UNKNOWN_PRIMITIVE_DATA_TYPE", f"{definition!r} is not a type that is known here")


def read_value(column: Column, value: Any) -> Any:
    """Return a JSON value as it is answered; None for no value or an empty set.

    Raise ValueError or TypeError.
    """
    if value is None:
        return None
    if column["type"] != "set":
        return _scalar(column["type"], value)
    if not isinstance(value, list):
        raise TypeError("a set is written as an array")
    return sorted({_scalar(column["valueType"], member) for member in value}) or None


def rank(column: Column, value: Any) -> int:
    """Return the sort key of a value in a column of the clustering key. Raise Refusal."""
    if column["type"] == "timestamp":
        return round(datetime.fromisoformat(value).timestamp() * 1000)
    if column["type"] == "uuid":
        return UUID(value).int
    raise Refusal("SCHEMA", "UNSUPPORTED_TABLE_DEFINITION", "only timestamps and uuids order rows here")


def _scalar(name: str, value: Any) -> Any:
    if name not in _SCALARS:
        raise ValueError(f"{name} can't be written")
    return _SCALARS[name](value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a boolean")
    return value


def _uuid(value: Any) -> str:
    text = str(UUID(_text(value)))
    if text != value.lower():
        raise ValueError("not a UUID in its canonical form")
    return text


def _timestamp(value: Any) -> str:
    """Return a timestamp as Java writes it, truncated to milliseconds."""
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError("not an ISO instant")
    digits = "milliseconds" if moment.microsecond >= 1000 else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=digits).replace("+00:00", "Z")


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "boolean": _boolean,
    "text": _text,
    "timestamp": _timestamp,
    "uuid": _uuid,
}
