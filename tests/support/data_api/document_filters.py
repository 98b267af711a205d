"""The filter of a collection's commands: one condition, and only on what the collection indexes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tests.support.data_api.documents import MISSING, check_id, value_at
from tests.support.data_api.refusals import Refusal, unsupported_query

MOST_IN_VALUES = 100


@dataclass(frozen=True)
class Condition:
    """What is at the path is one of the values, or contains it when it is an array."""

    path: str
    values: list[Any]


class Documented(Protocol):
    @property
    def document(self) -> Mapping[str, Any]: ...


def read_condition(options: dict[str, Any], given: Any) -> Condition | None:
    """The one condition of a filter, or None where there is none. Raises Refusal."""
    if not isinstance(given or {}, dict):
        raise Refusal("FILTER", "FILTER_INVALID_EXPRESSION", "a filter is an object")
    conditions = [condition for path, operand in (given or {}).items() for condition in _split(path, operand)]
    for path, _, _ in conditions:
        if path != "_id" and not _is_indexed(options.get("indexing") or {}, path):
            raise Refusal("FILTER", "FILTER_PATH_UNINDEXED", f"{path} is not indexed")
    if len(conditions) > 1:
        raise unsupported_query("Apache Cassandra takes one condition in a filter")
    return _read(*conditions[0]) if conditions else None


def read_values(condition: Condition, found: Documented) -> list[Any]:
    """What a document has at the condition's path: several values where there is an array."""
    value = value_at(found.document, condition.path)
    if value is MISSING:
        return []
    return [value, *value] if isinstance(value, list) else [value]


def _split(path: str, operand: Any) -> list[tuple[str, str, Any]]:
    if path.startswith("$"):
        raise unsupported_query(f"{path} joins conditions, and Apache Cassandra takes one")
    operators = operand if isinstance(operand, dict) else {"$eq": operand}
    return [(path, operator, value) for operator, value in operators.items()]


def _read(path: str, operator: str, operand: Any) -> Condition:
    if operator == "$in" and path == "_id":
        if not isinstance(operand, list) or not 1 <= len(operand) <= MOST_IN_VALUES:
            raise Refusal("FILTER", "FILTER_INVALID_EXPRESSION", f"$in takes 1 to {MOST_IN_VALUES} values")
        values = operand
    elif operator == "$eq":
        values = [operand]
    else:
        raise Refusal("FILTER", "FILTER_UNSUPPORTED_OPERATOR", f"the stand-in does not know {operator} on {path}")
    if path == "_id":
        for value in values:
            check_id(value)
    return Condition(path, values)


def _is_indexed(indexing: dict[str, list[str]], path: str) -> bool:
    steps = path.split(".")
    above = {"*", *(".".join(steps[:depth]) for depth in range(1, len(steps) + 1))}
    if "allow" in indexing:
        return bool(above & set(indexing["allow"]))
    return not above & set(indexing.get("deny", []))
