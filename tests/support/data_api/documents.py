"""What collections and tables have in common: dotted paths, update operators, projections and filters."""

import copy
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tests.support.data_api.errors import Refusal, unsupported_query

MOST_IN_VALUES = 100
MISSING: Any = object()

# A path is a series of names with dots between them. `&.` is a dot within a name, and `&&` an ampersand.
_NAME = r"(?:&[.&]|[^.&])+"
_PATH = re.compile(rf"(?!\$){_NAME}(?:\.{_NAME})*")


def split_path(path: str, scope: str = "UPDATE") -> list[str]:
    """Returns the names along a path. Raises Refusal."""
    if not _PATH.fullmatch(path):
        raise Refusal(scope, f"UNSUPPORTED_{scope}_OPERATION_PATH", f"{path!r} is not a path")
    return [re.sub("&(.)", r"\1", name) for name in re.findall(_NAME, path)]


def value_at(document: Any, names: list[str]) -> Any:
    """Returns the value at a path, or MISSING."""
    for name in names:
        if not isinstance(document, Mapping) or name not in document:
            return MISSING
        document = document[name]
    return document


# Each operator makes the new value of a field from the old one and its operand; MISSING means that there is none.
Operator = Callable[[Any, Any], Any]
Change = tuple[list[str], Operator, Any]


def read_update(
    update: Any, operators: Mapping[str, Operator], unknown: str = "UNSUPPORTED_UPDATE_OPERATION"
) -> list[Change]:
    """Returns path, operator and operand of each change in an update clause. Raises Refusal."""
    if update.keys() - operators.keys():
        raise Refusal("UPDATE", unknown, f"not known here: {update.keys() - operators.keys()}")
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
    """Returns the changed document. Raises Refusal."""
    changed = copy.deepcopy(dict(document))
    for path, operator, operand in changes:
        before = value_at(changed, path)
        after = operator(before, operand)
        if after is not MISSING:
            _holder(changed, path)[path[-1]] = copy.deepcopy(after)
        elif before is not MISSING:
            del _holder(changed, path)[path[-1]]
    return changed


def _holder(document: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Returns the object that the last name of the path belongs in, and makes what is missing on the way there."""
    for name in path[:-1]:
        document = document.setdefault(name, {})
        if not isinstance(document, dict):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_PATH", f"{path} leads through a value")
    return document


def set_value(_before: Any, operand: Any) -> Any:
    return operand


def unset(_before: Any, _operand: Any) -> Any:
    return MISSING


def push(before: Any, operand: Any) -> Any:
    return [*_array(before), *_each(operand)]


def pull_all(before: Any, operand: Any) -> Any:
    return [value for value in _array(before) if value not in _array(operand)]


def _add_to_set(before: Any, operand: Any) -> Any:
    array = list(_array(before))
    for value in _each(operand):
        if value not in array:
            array.append(value)
    return array


def _pop(before: Any, operand: Any) -> Any:
    rest = {1: slice(None, -1), -1: slice(1, None)}[operand]
    return before if before is MISSING else _array(before)[rest]


def _increment(before: Any, operand: Any) -> Any:
    return sum((0 if before is MISSING else before, operand))  # sum() refuses text, which + would join


def _maximum(before: Any, operand: Any) -> Any:
    return operand if before is MISSING or _comparable(before) < _comparable(operand) else before


def _minimum(before: Any, operand: Any) -> Any:
    return operand if before is MISSING or _comparable(before) > _comparable(operand) else before


def _current_date(_before: Any, operand: Any) -> Any:
    return {"$date": time.time_ns() // 1_000_000}


def _array(value: Any) -> list[Any]:
    if value is MISSING:
        return []
    if not isinstance(value, list):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_TARGET", "this operator changes arrays only")
    return value


def _each(operand: Any) -> list[Any]:
    """Returns the values to add: one, or those of `$each`. No other modifier is known."""
    if not isinstance(operand, dict) or "$each" not in operand:
        return [operand]
    if operand.keys() != {"$each"} or not isinstance(operand["$each"], list):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_MODIFIER", "only $each with an array is known")
    return operand["$each"]


def _comparable(value: Any) -> Any:
    return value["$date"] if isinstance(value, dict) else value


DOCUMENT_OPERATORS: dict[str, Operator] = {
    "$set": set_value,
    "$setOnInsert": lambda before, _: before,  # of a document that exists
    "$unset": unset,
    "$inc": _increment,
    "$max": _maximum,
    "$min": _minimum,
    "$push": push,
    "$pop": _pop,
    "$addToSet": _add_to_set,
    "$currentDate": _current_date,
}


def project(document: Mapping[str, Any], projection: Any) -> dict[str, Any]:
    """Returns the fields that a projection shows. Raises Refusal.

    `_id` is shown unless it is hidden by name; to show `_id` alone is to show everything, as in a real Data API.
    """
    flags = dict(projection or {})
    shows_id = flags.pop("_id", True)
    if set(flags.values()) not in (set(), {True}, {False}):
        raise Refusal("PROJECTION", "UNSUPPORTED_PROJECTION_PARAM", "a projection either shows or hides fields")
    tree: dict[str, Any] = {}
    for path in flags:
        branch = tree
        for name in split_path(path, "PROJECTION"):
            branch = branch.setdefault(name, {})
    shown = _select(document, tree, shows=True in flags.values())
    shown.pop("_id", None)
    return {"_id": document["_id"], **shown} if shows_id and "_id" in document else shown


def _select(document: Mapping[str, Any], tree: Mapping[str, Any], *, shows: bool) -> dict[str, Any]:
    """Returns the fields in the tree, or those outside of it. A leaf of the tree is empty and stands for the field."""
    selected = {}
    for name, value in document.items():
        branch = tree.get(name)
        if branch and isinstance(value, Mapping):
            selected[name] = _select(value, branch, shows=shows)
        elif (branch == {}) == shows:
            selected[name] = value
    return selected


@dataclass(frozen=True)
class Condition:
    """One condition of a filter."""

    path: str
    operator: str
    operand: Any

    @property
    def values(self) -> list[Any]:
        """The values of `$in` or `$eq`. Raises Refusal for other operators, and for more than 100 values."""
        if self.operator == "$eq":
            return [self.operand]
        if self.operator != "$in":
            raise Refusal("FILTER", "FILTER_UNSUPPORTED_OPERATOR", f"{self.operator} on {self.path} is not known here")
        if not isinstance(self.operand, list) or not 1 <= len(self.operand) <= MOST_IN_VALUES:
            raise Refusal("FILTER", "FILTER_INVALID_EXPRESSION", f"$in takes 1 to {MOST_IN_VALUES} values")
        return self.operand


def read_filter(given: Any) -> list[Condition]:
    """Returns the conditions of a filter. Raises Refusal."""
    conditions: list[Condition] = []
    for path, operand in (given or {}).items():
        if path.startswith("$"):
            raise unsupported_query(f"{path} joins conditions, and Apache Cassandra takes one")
        operators = operand if isinstance(operand, dict) else {"$eq": operand}
        conditions.extend(Condition(path, operator, value) for operator, value in operators.items())
    return conditions
