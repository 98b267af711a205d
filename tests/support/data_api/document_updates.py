"""The update clause of a collection's updateOne and findOneAndUpdate."""

import copy
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from tests.support.data_api.documents import parent_at
from tests.support.data_api.refusals import Refusal

_Operation = Callable[[dict[str, Any], str, Any], None]


def read_update(update: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The clause as a function from a document to the changed one. Raises Refusal, and so does the function."""
    if not isinstance(update, dict) or not update:
        raise Refusal("UPDATE", "MISSING_UPDATE_OPERATIONS", "nothing to change")
    unsupported = sorted(update.keys() - _OPERATIONS.keys())
    if unsupported:
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION", f"collections don't take {unsupported}")
    if any(not isinstance(arguments, dict) for arguments in update.values()):
        raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", "an operator takes an object")
    steps = [(operator, path, operand) for operator, paths in update.items() for path, operand in paths.items()]
    _check_paths([path for _, path, _ in steps])

    def change(document: Mapping[str, Any]) -> dict[str, Any]:
        changed = copy.deepcopy(dict(document))
        for operator, path, operand in steps:
            _OPERATIONS[operator](changed, path, copy.deepcopy(operand))
        return changed

    return change


def _check_paths(paths: list[str]) -> None:
    for path in paths:
        if path == "_id":
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID", "an id is for ever")
        if path.startswith("$") or "&" in path or not all(path.split(".")):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_PATH", f"{path!r} is no path")
    for one, other in combinations(sorted(paths), 2):
        if one == other or other.startswith(one + "."):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_PARAM", f"{other} is changed twice")


def _set(document: dict[str, Any], path: str, operand: Any) -> None:
    holder, name = parent_at(document, path, make=True)
    if holder is not None:
        holder[name] = operand


def _unset(document: dict[str, Any], path: str, _operand: Any) -> None:
    holder, name = parent_at(document, path, make=False)
    if holder is not None:
        holder.pop(name, None)


def _inc(document: dict[str, Any], path: str, operand: Any) -> None:
    if not _is_number(operand):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_PARAM", "$inc takes a number")
    holder, name = parent_at(document, path, make=True)
    if holder is not None:
        before = holder.setdefault(name, 0)
        if not _is_number(before):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_TARGET", "$inc is for numbers")
        holder[name] = before + operand


def _push(document: dict[str, Any], path: str, operand: Any) -> None:
    _array(document, path).extend(_each(operand))


def _add_to_set(document: dict[str, Any], path: str, operand: Any) -> None:
    array = _array(document, path)
    for value in _each(operand):
        if value not in array:
            array.append(value)


def _array(document: dict[str, Any], path: str) -> list[Any]:
    holder, name = parent_at(document, path, make=True)
    array = [] if holder is None else holder.setdefault(name, [])
    if not isinstance(array, list):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_TARGET", "the target is no array")
    return array


def _each(operand: Any) -> list[Any]:
    if not isinstance(operand, dict) or not any(name.startswith("$") for name in operand):
        return [operand]
    if operand.keys() != {"$each"} or not isinstance(operand["$each"], list):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_MODIFIER", "several values are added with $each")
    return operand["$each"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_OPERATIONS: dict[str, _Operation] = {
    "$set": _set,
    "$unset": _unset,
    "$inc": _inc,
    "$push": _push,
    "$addToSet": _add_to_set,
}
