"""The update clause of a table's updateOne: `$set`, `$unset`, `$push` and `$pullAll`, each column in one of them."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.data_api.columns import ColumnType, Misfit, members_to_stored, to_stored
from tests.support.data_api.refusals import Refusal
from tests.support.data_api.table import Table

Change = Callable[[Any], Any]


def read_update(table: Table, update: Any) -> dict[str, Change]:
    """What becomes of each cell that the clause names: a function of its value before. Raises Refusal."""
    if not isinstance(update, dict):
        raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", "an update is an object")
    unsupported = sorted(update.keys() - _OPERATORS.keys())
    if unsupported:
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATIONS_FOR_TABLE", f"tables don't take {unsupported}")
    changes: dict[str, Change] = {}
    for operator, arguments in update.items():
        if not isinstance(arguments, dict):
            raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", f"{operator} takes an object")
        for column, operand in arguments.items():
            _check_column(table, column, taken=column in changes)
            changes[column] = _change(table.columns[column], operator, operand)
    if not changes:
        raise Refusal("UPDATE", "MISSING_UPDATE_OPERATIONS", "nothing to change")
    return changes


def apply_update(changes: Mapping[str, Change], cells: Mapping[str, Any]) -> dict[str, Any]:
    """The new value of each changed cell; None is none."""
    return {column: change(cells.get(column)) for column, change in changes.items()}


def _check_column(table: Table, column: str, *, taken: bool) -> None:
    if column not in table.columns:
        raise Refusal("UPDATE", "UNKNOWN_TABLE_COLUMNS", f"no such column: {column}")
    if column == table.key:
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_FOR_PRIMARY_KEY_COLUMNS", "a key is for ever")
    if taken:
        raise Refusal("UPDATE", "UNSUPPORTED_OVERLAPPING_UPDATE_OPERATIONS", f"{column} is changed twice")


def _change(column: ColumnType, operator: str, operand: Any) -> Change:
    if operator in ("$push", "$pullAll") and not column.is_set:
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATOR", f"{operator} is for sets")
    try:
        return _OPERATORS[operator](column, operand)
    except ValueError as problem:
        raise Refusal("UPDATE", "INVALID_UPDATE_COLUMN_VALUES", str(problem)) from None


def _set(column: ColumnType, operand: Any) -> Change:
    stored = to_stored(column, operand)
    return lambda _: stored


def _unset(_column: ColumnType, _operand: Any) -> Change:
    return lambda _: None


def _push(column: ColumnType, operand: Any) -> Change:
    values = [operand]
    if isinstance(operand, dict):
        if operand.keys() != {"$each"} or not isinstance(operand["$each"], list):
            raise Refusal("UPDATE", "INVALID_PUSH_OPERATOR_USAGE", "several values are pushed with $each")
        values = operand["$each"]
    elif isinstance(operand, list):
        raise Refusal("UPDATE", "INVALID_PUSH_OPERATOR_USAGE", "several values are pushed with $each")
    members = members_to_stored(column, values)
    return lambda before: (before or frozenset()) | members or None


def _pull_all(column: ColumnType, operand: Any) -> Change:
    if not isinstance(operand, list):
        raise Misfit("$pullAll takes an array")
    members = members_to_stored(column, operand)
    return lambda before: (before or frozenset()) - members or None


_OPERATORS: dict[str, Callable[[ColumnType, Any], Change]] = {
    "$set": _set,
    "$unset": _unset,
    "$push": _push,
    "$pullAll": _pull_all,
}
