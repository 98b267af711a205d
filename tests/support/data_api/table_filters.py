"""The filter of a table's commands: one condition, because Apache Cassandra refuses two."""

from dataclasses import dataclass
from typing import Any

from tests.support.data_api.columns import members_to_stored, to_stored
from tests.support.data_api.refusals import Refusal, unsupported_query
from tests.support.data_api.table import Row, Table

MOST_IN_VALUES = 100


@dataclass(frozen=True)
class Condition:
    """The column holds one of the values, or contains the one value when it is a set."""

    column: str
    operator: str
    values: frozenset[Any]


def read_condition(table: Table, given: Any) -> Condition | None:
    """The one condition of a find's filter, or None where there is none. Raises Refusal."""
    conditions = _split(table, given)
    if len(conditions) > 1:
        raise unsupported_query("Apache Cassandra takes one condition in a filter")
    if not conditions:
        return None
    column, operator, operand = conditions[0]
    if table.columns[column].is_set:
        return _set_condition(table, column, operator, operand)
    if operator == "$in" and column != table.key:
        raise unsupported_query("$in is for the key and for sets")
    values = _in_values(operand) if operator == "$in" else [operand]
    return Condition(column, operator, frozenset(_stored(table, column, value) for value in values))


def read_key(table: Table, given: Any) -> str:
    """The key that the filter of updateOne or deleteOne names. Raises Refusal."""
    conditions = _split(table, given)
    if not conditions:
        raise Refusal("FILTER", "MISSING_FILTER_FOR_UPDATE_DELETE", "which row?")
    if {column for column, _, _ in conditions} != {table.key}:
        message = "rows are updated and deleted by their key and nothing else"
        raise Refusal("FILTER", "UNSUPPORTED_NON_PRIMARY_KEY_FILTER_FOR_UPDATE_DELETE", message)
    if len(conditions) > 1 or conditions[0][1] != "$eq":
        raise Refusal("FILTER", "UNSUPPORTED_FILTER_FOR_UPDATE_ONE_DELETE_ONE", "one row is named with $eq")
    return str(_stored(table, table.key, conditions[0][2]))


def find_rows(table: Table, condition: Condition | None) -> list[Row]:
    """The rows that meet the condition, in no order."""
    if condition is None:
        return list(table.rows.values())
    if condition.column == table.key:
        return [table.rows[key] for key in condition.values if key in table.rows]
    if table.columns[condition.column].is_set:
        return [row for row in table.rows.values() if condition.values <= row.cells.get(condition.column, frozenset())]
    return [row for row in table.rows.values() if row.cells.get(condition.column) in condition.values]


def _split(table: Table, given: Any) -> list[tuple[str, str, Any]]:
    """Column, operator and operand of each condition."""
    if not isinstance(given or {}, dict):
        raise Refusal("FILTER", "FILTER_INVALID_EXPRESSION", "a filter is an object")
    conditions: list[tuple[str, str, Any]] = []
    for column, operand in (given or {}).items():
        if column in ("$and", "$or", "$not"):
            raise unsupported_query(f"{column} joins conditions, and Apache Cassandra takes one")
        if column not in table.columns:
            raise Refusal("FILTER", "UNKNOWN_TABLE_COLUMNS", f"no such column: {column}")
        operators = operand if isinstance(operand, dict) else {"$eq": operand}
        conditions.extend((column, operator, value) for operator, value in operators.items())
    if len(conditions) == 1:
        _check_operator(conditions[0][1])
    return conditions


def _check_operator(operator: str) -> None:
    if operator == "$all":
        raise unsupported_query("$all is as many conditions as it has values")
    if operator not in ("$eq", "$in"):
        raise Refusal("FILTER", "FILTER_UNSUPPORTED_OPERATOR", f"the stand-in does not know {operator}")


def _set_condition(table: Table, column: str, operator: str, operand: Any) -> Condition:
    if operator != "$in":
        raise Refusal("FILTER", "INVALID_MAP_SET_LIST_FILTER", "a set is searched with $in")
    values = _in_values(operand)
    if len(values) > 1:
        raise unsupported_query("each value of a set's $in is a condition")
    try:
        return Condition(column, operator, members_to_stored(table.columns[column], values))
    except ValueError as problem:
        raise Refusal("FILTER", "INVALID_FILTER_COLUMN_VALUES", str(problem)) from None


def _in_values(operand: Any) -> list[Any]:
    if not isinstance(operand, list) or not 1 <= len(operand) <= MOST_IN_VALUES:
        raise Refusal("FILTER", "FILTER_INVALID_EXPRESSION", f"$in takes 1 to {MOST_IN_VALUES} values")
    return operand


def _stored(table: Table, column: str, value: Any) -> Any:
    try:
        stored = to_stored(table.columns[column], value)
    except ValueError as problem:
        raise Refusal("FILTER", "INVALID_FILTER_COLUMN_VALUES", str(problem)) from None
    if stored is None:
        raise Refusal("FILTER", "INVALID_FILTER_COLUMN_VALUES", "nothing equals null")
    return stored
