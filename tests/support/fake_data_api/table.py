"""One table, and the commands that read and write its rows, with the semantics of Cassandra's statements."""

import json
from collections.abc import Iterable
from typing import Any

from tests.support.fake_data_api.columns import Column, rank, read_column, read_value
from tests.support.fake_data_api.errors import Answer, Refusal, error, unsupported_query
from tests.support.fake_data_api.queries import Condition, Entry, cut_page, first, project, read_filter, token

Cells = dict[str, Any]
Key = tuple[Any, ...]

_OK: Answer = {"status": {"ok": 1}}


class Table:
    """Rows by their primary key, whose cells without a value are left out. The public methods are the API's commands.

    A table created by CQL may have columns of types that can't be read or written here.
    """

    def __init__(self, definition: Any, *, made_by_cql: bool = False) -> None:
        key = definition["primaryKey"]
        key = {"partitionBy": [key]} if isinstance(key, str) else key
        self.partition: list[str] = key["partitionBy"]
        self.clustering: dict[str, int] = key.get("partitionSort") or {}
        self.key = [*self.partition, *self.clustering]
        self.columns: dict[str, Column] = {}
        self.indexes: dict[str, dict[str, Any]] = {}
        self.entries: dict[Any, Entry] = {}  # by the values of the primary key
        columns = definition["columns"]
        if not set(self.key) <= columns.keys():
            raise Refusal("SCHEMA", "UNKNOWN_PARTITION_COLUMNS", f"not all of the key are columns: {key}")
        as_given = {name: column for name, column in columns.items() if made_by_cql and isinstance(column, dict)}
        self._add(as_given | {name: read_column(column) for name, column in columns.items() if name not in as_given})

    def alterTable(self, operation: Any) -> Answer:
        """Add columns; the fake knows no other change."""
        columns = operation["add"]["columns"]
        if columns.keys() & self.columns.keys():
            raise Refusal("SCHEMA", "CANNOT_ADD_EXISTING_COLUMNS", f"not all of {list(columns)} are new")
        self._add({name: read_column(column) for name, column in columns.items()})
        return _OK

    def createIndex(self, name: str, definition: Any, *, ifNotExists: bool = False) -> Answer:
        if name in self.indexes and not ifNotExists:
            raise Refusal("SCHEMA", "CANNOT_ADD_EXISTING_INDEX", f"{name} exists", status={"ok": 0})
        if definition.keys() != {"column"}:
            raise Refusal("SCHEMA", "INVALID_INDEX_DEFINITION", "an index with options is not known here")
        self._check_columns([definition["column"]], "SCHEMA")
        index = {"name": name, "definition": definition | {"options": {}}, "indexType": "regular"}
        self.indexes.setdefault(name, index)
        return _OK

    def listIndexes(self, *, explain: bool = False) -> Answer:
        return {"status": {"indexes": list(self.indexes.values() if explain else self.indexes)}}

    def insertOne(self, document: Cells) -> Answer:
        """Write a row, or the given cells of one with the same key."""
        if any(document.get(name) is None for name in self.key):
            raise Refusal("DOCUMENT", "MISSING_PRIMARY_KEY_COLUMNS", f"a row has values for {self.key}")
        self._check_columns(document, "DOCUMENT")
        cells = {name: self._value(name, value, "DOCUMENT") for name, value in document.items()}
        key = tuple(cells[name] for name in self.key)
        self._put(key, (self.entries[key].content if key in self.entries else {}) | cells)
        schema = {name: self.columns[name] for name in self.key}
        return {"status": {"insertedIds": [list(key)], "primaryKeySchema": schema}}

    def findOne(self, filter: Any = None, projection: Any = None) -> Answer:
        conditions, status = self._read(filter, projection)
        row = first(self._matching(conditions))
        return {"data": {"document": None if row is None else project(row, projection)}, "status": status}

    def find(self, filter: Any = None, projection: Any = None, *, pageState: Any = None) -> Answer:
        """Answer a page of 50 rows; those of one partition are in clustering order."""
        conditions, status = self._read(filter, projection)
        page, state = cut_page(self._matching(conditions), [id(self), filter, projection], pageState)
        documents = [project(entry.content, projection) for entry in page]
        return {"data": {"documents": documents, "nextPageState": state}, "status": status}

    def deleteOne(self, filter: Any = None) -> Answer:
        """Delete a row if it exists. Answer the same if not."""
        self.entries.pop(self._key_of(filter), None)
        return {"status": {"deletedCount": -1}}

    def _add(self, columns: dict[str, Column]) -> None:
        """Add columns, in Cassandra's order: the key first, the others by name."""
        together = self.columns | columns
        self.columns = {name: together[name] for name in [*self.key, *sorted(together.keys() - set(self.key))]}

    def _put(self, key: Key, cells: Cells) -> None:
        row = {name: value for name, value in cells.items() if value is not None}
        clustered = zip(self.clustering.items(), key[len(self.partition) :], strict=True)
        within = [direction * rank(self.columns[name], value) for (name, direction), value in clustered]
        self.entries[key] = Entry([token(json.dumps(key[: len(self.partition)]).encode()), *within], row)

    def _value(self, column: str, value: Any, scope: str) -> Any:
        """Return a value as it is kept. Raise Refusal."""
        try:
            return read_value(self.columns[column], value)
        except (ValueError, TypeError) as problem:
            raise Refusal(scope, "INVALID_COLUMN_VALUES", f"{column}: {problem}") from None

    def _check_columns(self, names: Iterable[str], scope: str) -> None:
        unknown = set(names) - self.columns.keys()
        if unknown:
            raise Refusal(scope, "UNKNOWN_TABLE_COLUMNS", f"there are no columns {unknown}")

    def _conditions(self, filter: Any) -> list[Condition]:
        conditions = read_filter(filter)
        self._check_columns((condition.path for condition in conditions), "FILTER")
        return conditions

    def _read(self, filter: Any, projection: Any) -> tuple[list[Condition], dict[str, Any]]:
        """Return the conditions of a read, one at most, and the status of its answer. Raise Refusal."""
        conditions = self._conditions(filter)
        codes = [] if conditions else ["ZERO_FILTER_OPERATIONS"]
        if any(self._misses_index(condition) for condition in conditions):
            codes = ["MISSING_INDEX"]
        warnings = {"warnings": [error("WARNING", code, "the whole table is read") for code in codes]} if codes else {}
        if len(conditions) > 1:
            raise unsupported_query("Apache Cassandra takes one condition in a filter", status=warnings)
        self._check_columns(projection or {}, "PROJECTION")
        return conditions, warnings | {"projectionSchema": project(self.columns, projection)}

    def _misses_index(self, condition: Condition) -> bool:
        if condition.path in self.partition:
            return condition.operator not in ("$eq", "$in")
        indexed = [index["definition"]["column"] for index in self.indexes.values()]
        return condition.path not in [*self.clustering, *indexed]

    def _matching(self, conditions: list[Condition]) -> list[Entry]:
        """Return the rows that meet the condition, in no order. Raise Refusal for what Cassandra refuses."""
        entries = list(self.entries.values())
        if not conditions:
            return entries
        (condition,) = conditions
        column = condition.path
        if self.columns[column]["type"] == "set":
            member = self._wanted_member(condition)
            return [entry for entry in entries if member in entry.content.get(column, ())]
        if column in self.key and self.partition != [column]:
            raise unsupported_query("a partition is found by its whole key")
        if condition.operator == "$in" and column not in self.key:
            raise unsupported_query("$in is for the partition key and for sets")
        wanted = self._wanted(condition)
        return [entry for entry in entries if entry.content.get(column) in wanted]

    def _wanted(self, condition: Condition) -> list[Any]:
        """Return the values of a condition. Raise Refusal."""
        wanted = [self._value(condition.path, value, "FILTER") for value in condition.values]
        if None in wanted:
            raise Refusal("FILTER", "INVALID_FILTER_COLUMN_VALUES", "nothing equals null")
        return wanted

    def _wanted_member(self, condition: Condition) -> Any:
        if condition.operator == "$all" or len(condition.values) > 1:
            raise unsupported_query("each member that a set must have is a condition of its own")
        if condition.operator != "$in":
            raise Refusal("FILTER", "INVALID_MAP_SET_LIST_FILTER", "a set is searched with $in")
        return self._value(condition.path, condition.operand, "FILTER")[0]

    def _key_of(self, filter: Any) -> Key:
        """Return the key of the row to delete. Raise Refusal."""
        conditions = self._conditions(filter)
        if not conditions:
            raise Refusal("FILTER", "MISSING_FILTER_FOR_UPDATE_DELETE", "a filter must name the row")
        if any(condition.path not in self.key for condition in conditions):
            code = "UNSUPPORTED_NON_PRIMARY_KEY_FILTER_FOR_UPDATE_DELETE"
            raise Refusal("FILTER", code, "rows are deleted by their primary key")
        if len(conditions) > 1:
            raise unsupported_query("Apache Cassandra takes one condition in a filter")
        if self.key != [conditions[0].path] or conditions[0].operator != "$eq":
            raise Refusal("FILTER", "UNSUPPORTED_FILTER_FOR_UPDATE_ONE_DELETE_ONE", "one row is named by $eq")
        return tuple(self._wanted(conditions[0]))
