"""How documents change: dotted paths and update operators."""

import re
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import orjson

from tests.support.fake_data_api.errors import Refusal

MISSING: Any = object()

# A path is a series of names with dots between them. `&.` is a dot within a name, and `&&` an ampersand.
_NAME = r"(?:&[.&]|[^.&])+"
_PATH = re.compile(rf"(?!\$){_NAME}(?:\.{_NAME})*")

# Each operator makes the new value of a field from the old one and its operand; MISSING means that there is none.
Operator = Callable[[Any, Any], Any]
Change = tuple[list[str], Operator, Any]


def split_path(path: str, scope: str = "UPDATE") -> list[str]:
    """Return the names along a path. Raise Refusal."""
    if not _PATH.fullmatch(path):
        raise Refusal(scope, f"UNSUPPORTED_{scope}_OPERATION_PATH", f"{path!r} is not a path")
    return [re.sub("&(.)", r"\1", name) for name in re.findall(_NAME, path)]


def value_at(document: Any, names: list[str]) -> Any:
    """Return the value at a path, or MISSING."""
    for name in names:
        if not isinstance(document, dict) or name not in document:
            return MISSING
        document = document[name]
    return document


def read_update(update: Any, operators: Mapping[str, Operator]) -> list[Change]:
    """Return path, operator and operand of each change in an update clause. Raise Refusal."""
    if update.keys() - operators.keys():
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION", f"not known here: {update.keys() - operators.keys()}")
    changes = [
        (split_path(path), operators[operator], operand)
        for operator, fields in update.items()
        for path, operand in fields.items()
    ]
    if not changes:
        raise Refusal("UPDATE", "MISSING_UPDATE_OPERATIONS", "there is nothing to change")
    for one, other in combinations(sorted(path for path, _, _ in changes), 2):
        if one == other[: len(one)]:
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_PARAM", f"{other} is changed twice")
    return changes


def apply_changes(document: Mapping[str, Any], changes: list[Change]) -> dict[str, Any]:
    """Return a changed copy of the document. Raise Refusal."""
    changed: dict[str, Any] = orjson.loads(orjson.dumps(document))
    for path, operator, operand in changes:
        before = value_at(changed, path)
        after = operator(before, operand)
        if after is not MISSING:
            _holder(changed, path)[path[-1]] = after
        elif before is not MISSING:
            del _holder(changed, path)[path[-1]]
    return changed


def _holder(document: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Return the object that has the last name of the path, creating missing objects."""
    for name in path[:-1]:
        document = document.setdefault(name, {})
        if not isinstance(document, dict):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_PATH", f"{path} leads through a value")
    return document


def _add_to_set(before: Any, operand: Any) -> Any:
    array = _array(before)
    return [*array, *(value for value in _each(operand) if value not in array)]


def _increment(before: Any, operand: Any) -> Any:
    if isinstance(before, bool):  # a number to Python
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_TARGET", "this operator changes numbers only")
    return sum((0 if before is MISSING else before, operand))  # sum() refuses text, which + would join


def _array(value: Any) -> list[Any]:
    if value is MISSING:
        return []
    if not isinstance(value, list):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_TARGET", "this operator changes arrays only")
    return value


def _each(operand: Any) -> list[Any]:
    """Return the values to add: one, or those of `$each`. A real Data API takes a bare `$date` for a modifier too."""
    if not isinstance(operand, dict) or not any(name.startswith("$") for name in operand):
        return [operand]
    if operand.keys() != {"$each"} or not isinstance(operand["$each"], list):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_MODIFIER", "only $each with an array is known")
    return operand["$each"]


def _furthest(choose: Callable[..., Any]) -> Operator:
    def choice(value: Any) -> Any:
        return value["$date"] if isinstance(value, dict) else value

    return lambda before, operand: operand if before is MISSING else choose(before, operand, key=choice)


DOCUMENT_OPERATORS: dict[str, Operator] = {
    "$set": lambda _, operand: operand,
    "$unset": lambda _, __: MISSING,
    "$setOnInsert": lambda before, _: before,  # of a document that exists
    "$inc": _increment,
    "$max": _furthest(max),
    "$min": _furthest(min),
    "$push": lambda before, operand: [*_array(before), *_each(operand)],
    "$addToSet": _add_to_set,
}
INSERT_OPERATORS = DOCUMENT_OPERATORS | {"$setOnInsert": DOCUMENT_OPERATORS["$set"]}
