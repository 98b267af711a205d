"""One table, and the commands that read and write its rows, with the semantics of Cassandra's statements."""

import json
from collections.abc import Iterable
from typing import Any

from tests.support.data_api.columns import Column, read_value, sort_value
from tests.support.data_api.documents import (
    Change,
    Condition,
    apply_changes,
    project,
    pull_all,
    push,
    read_filter,
    read_update,
    set_value,
    unset,
)
from tests.support.data_api.errors import Refusal, error, unsupported_query
from tests.support.data_api.pages import Entry, cut_page, ordered, token

Fields = dict[str, Any]
Answer = dict[str, Any]
Row = dict[str, Any]
Key = tuple[Any, ...]

# A set's column is an array without order and repetitions, so pushing to it is adding to a set.
_OPERATORS = {"$set": set_value, "$unset": unset, "$push": push, "$pullAll": pull_all}


class Table:
    """Rows by their primary key. Values are kept as they are answered, and cells without one are left out."""

    def __init__(self, columns: dict[str, Column], partition: list[str], clustering: dict[str, int]) -> None:
        self.columns: dict[str, Column] = {}
        self.partition, self.clustering = partition, clustering
        self.indexes: dict[str, dict[str, Any]] = {}
        self._entries: dict[Key, Entry] = {}
        self.add_columns(columns)

    @property
    def key(self) -> list[str]:
        """The columns of the primary key."""
        return [*self.partition, *self.clustering]

    def add_columns(self, columns: dict[str, Column]) -> None:
        """Adds columns. They are listed as Cassandra does: the key first, the others by name."""
        together = self.columns | columns
        self.columns = {name: together[name] for name in [*self.key, *sorted(together.keys() - set(self.key))]}

    def rows(self) -> list[Row]:
        return [entry.content for entry in self._entries.values()]

    def get(self, key: Key) -> Row | None:
        return self._entries[key].content if key in self._entries else None

    def remove(self, key: Key) -> None:
        self._entries.pop(key, None)

    def insert(self, document: Any) -> Key:
        """Writes a row, or over the cells of one with the same key, and returns the key. Raises Refusal."""
        if any(document.get(name) is None for name in self.key):
            raise Refusal("DOCUMENT", "MISSING_PRIMARY_KEY_COLUMNS", f"a row has values for {self.key}")
        self.check_columns(document, "DOCUMENT")
        cells = {name: self.value(name, value, "DOCUMENT") for name, value in document.items()}
        key = tuple(cells[name] for name in self.key)
        self._write(key, (self.get(key) or {}) | cells, inserted=True)
        return key

    def update(self, key: Key, changes: list[Change]) -> None:
        """Changes cells of a row, and makes the row if it is missing and gets a cell. Raises Refusal."""
        before = self.get(key) or dict(zip(self.key, key, strict=True))
        after = apply_changes(before, changes)
        cells = {name: self.value(name, value, "UPDATE") for name, value in after.items()}
        self._write(key, cells, inserted=False)

    def _write(self, key: Key, cells: Row, *, inserted: bool) -> None:
        before = self._entries.get(key)
        inserted = inserted or (before is not None and before.inserted)
        row = {name: value for name, value in cells.items() if value is not None}
        if inserted or row.keys() > set(self.key):
            self._entries[key] = Entry(self._position(key), row, inserted)
        else:
            self.remove(key)

    def _position(self, key: Key) -> list[Any]:
        clustered = zip(self.clustering.items(), key[len(self.partition) :], strict=True)
        within = [sort_value(self.columns[name], value, direction) for (name, direction), value in clustered]
        return [token(json.dumps(key[: len(self.partition)])), *within]

    def value(self, column: str, value: Any, scope: str) -> Any:
        """Returns a value as it is kept. Raises Refusal."""
        try:
            return read_value(self.columns[column], value)
        except (ValueError, TypeError) as problem:
            raise Refusal(scope, "INVALID_COLUMN_VALUES", f"{column}: {problem}") from None

    def check_columns(self, names: Iterable[str], scope: str) -> None:
        unknown = set(names) - self.columns.keys()
        if unknown:
            raise Refusal(scope, "UNKNOWN_TABLE_COLUMNS", f"there are no columns {unknown}")

    def conditions(self, given: Any) -> list[Condition]:
        conditions = read_filter(given)
        self.check_columns((condition.path for condition in conditions), "FILTER")
        return conditions

    def matching(self, conditions: list[Condition]) -> list[Entry]:
        """Returns the rows that meet the condition, in no order. Raises Refusal for what Cassandra refuses."""
        if not conditions:
            return list(self._entries.values())
        (condition,) = conditions
        column = condition.path
        if self.columns[column]["type"] == "set":
            member = self._wanted_member(condition)
            return [entry for entry in self._entries.values() if member in entry.content.get(column, ())]
        if column in self.key and self.partition != [column]:
            raise unsupported_query("a partition is found by its whole key")
        if condition.operator == "$in" and column not in self.key:
            raise unsupported_query("$in is for the partition key and for sets")
        wanted = self.wanted(condition)
        if self.key == [column]:
            return [self._entries[value,] for value in set(wanted) if (value,) in self._entries]
        return [entry for entry in self._entries.values() if entry.content.get(column) in wanted]

    def last_position(self, conditions: list[Condition]) -> list[Any] | None:
        """Returns the position after which nothing can follow: that of the last row, if rows are named by key."""
        if [condition.path for condition in conditions] != self.key:
            return None
        return max(self._position((value,)) for value in self.wanted(conditions[0]))

    def wanted(self, condition: Condition) -> list[Any]:
        """Returns the values of a condition. Raises Refusal."""
        wanted = [self.value(condition.path, value, "FILTER") for value in condition.values]
        if None in wanted:
            raise Refusal("FILTER", "INVALID_FILTER_COLUMN_VALUES", "nothing equals null")
        return wanted

    def _wanted_member(self, condition: Condition) -> Any:
        if condition.operator == "$all" or len(condition.values) > 1:
            raise unsupported_query("each member that a set must have is a condition of its own")
        if condition.operator != "$in":
            raise Refusal("FILTER", "INVALID_MAP_SET_LIST_FILTER", "a set is searched with $in")
        return self.value(condition.path, condition.operand, "FILTER")[0]


def insert_one(table: Table, fields: Fields) -> Answer:
    key = table.insert(fields["document"])
    return {
        "status": {"insertedIds": [list(key)], "primaryKeySchema": {name: table.columns[name] for name in table.key}}
    }


def find_one(table: Table, fields: Fields) -> Answer:
    conditions, status = _read(table, fields)
    entries = ordered(table.matching(conditions))
    document = project(entries[0].content, fields.get("projection")) if entries else None
    return {"data": {"document": document}, "status": status}


def find(table: Table, fields: Fields) -> Answer:
    """Answers a page of 50 rows, so the rows of 100 keys take two; those of one partition are in clustering order."""
    conditions, status = _read(table, fields)
    page, state = cut_page(
        table.matching(conditions),
        json.dumps([id(table), fields.get("filter"), fields.get("projection"), fields.get("sort")]),
        fields["options"],
        last=table.last_position(conditions),
        backwards=_is_backwards(table, fields.get("sort")),
    )
    documents = [project(entry.content, fields.get("projection")) for entry in page]
    return {"data": {"documents": documents, "nextPageState": state}, "status": status}


def update_one(table: Table, fields: Fields) -> Answer:
    """Updates a row or makes it, and answers the same in both cases."""
    key = _read_key(table, fields.get("filter"))
    changes = read_update(fields["update"], _OPERATORS, "UNSUPPORTED_UPDATE_OPERATIONS_FOR_TABLE")
    columns = [path[0] for path, _, _ in changes]
    table.check_columns(columns, "UPDATE")
    if set(columns) & set(table.key):
        raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_FOR_PRIMARY_KEY_COLUMNS", "a primary key never changes")
    table.update(key, changes)
    return {"status": {"matchedCount": 1, "modifiedCount": 1}}


def delete_one(table: Table, fields: Fields) -> Answer:
    """Deletes a row if it exists, and answers the same in both cases."""
    table.remove(_read_key(table, fields.get("filter")))
    return {"status": {"deletedCount": -1}}


def _read(table: Table, fields: Fields) -> tuple[list[Condition], dict[str, Any]]:
    """Returns the conditions of a read, one at most, and the status of its answer. Raises Refusal."""
    conditions = table.conditions(fields.get("filter"))
    codes = [] if conditions else ["ZERO_FILTER_OPERATIONS"]
    if any(_misses_index(table, condition) for condition in conditions):
        codes = ["MISSING_INDEX"]
    warnings = {"warnings": [error("WARNING", code, "the whole table is read") for code in codes]} if codes else {}
    if len(conditions) > 1:
        raise unsupported_query("Apache Cassandra takes one condition in a filter", status=warnings)
    shown = project(table.columns, fields.get("projection"))
    table.check_columns(fields.get("projection") or {}, "PROJECTION")
    return conditions, warnings | {"projectionSchema": shown}


def _misses_index(table: Table, condition: Condition) -> bool:
    if condition.path in table.partition:
        return condition.operator not in ("$eq", "$in")
    indexed = [index["definition"]["column"] for index in table.indexes.values()]
    return condition.path not in [*table.clustering, *indexed]


def _is_backwards(table: Table, sort: Any) -> bool:
    """Tells whether a sort turns the clustering order around. Raises Refusal for any other sort."""
    if not sort:
        return False
    column, direction = next(iter(table.clustering.items()), (None, 0))
    if sort not in ({column: 1}, {column: -1}):
        raise Refusal("SORT", "UNSUPPORTED_SORT", "rows are sorted by the first clustering column only")
    return bool(sort[column] != direction)


def _read_key(table: Table, given: Any) -> Key:
    """Returns the key of the row to update or delete. Raises Refusal."""
    conditions = table.conditions(given)
    if not conditions:
        raise Refusal("FILTER", "MISSING_FILTER_FOR_UPDATE_DELETE", "a filter must name the row")
    if any(condition.path not in table.key for condition in conditions):
        code = "UNSUPPORTED_NON_PRIMARY_KEY_FILTER_FOR_UPDATE_DELETE"
        raise Refusal("FILTER", code, "rows are updated and deleted by their primary key")
    if len(conditions) > 1:
        raise unsupported_query("Apache Cassandra takes one condition in a filter")
    if table.key != [conditions[0].path] or conditions[0].operator != "$eq":
        raise Refusal("FILTER", "UNSUPPORTED_FILTER_FOR_UPDATE_ONE_DELETE_ONE", "one row is named by $eq of its key")
    return tuple(table.wanted(conditions[0]))
