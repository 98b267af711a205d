"""One table: its definition and its rows, with the semantics of Cassandra's INSERT, UPDATE and DELETE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.support.data_api.columns import ColumnType, foreign_type, read_type, to_answer, to_stored
from tests.support.data_api.command_fields import read_fields
from tests.support.data_api.pages import Position, position_of
from tests.support.data_api.refusals import Refusal, unsupported_query


@dataclass(frozen=True)
class Row:
    """Cells that have a value. A row that INSERT wrote stays when its last cell goes, one that UPDATE made doesn't."""

    position: Position
    cells: Mapping[str, Any]
    inserted: bool


class Table:
    """Rows are replaced and never changed, so what was read may be answered without a lock."""

    def __init__(self, columns: dict[str, ColumnType], primary_key: dict[str, Any]) -> None:
        self.identity = uuid4().hex
        self.columns: dict[str, ColumnType] = {}
        self.primary_key = primary_key
        self.indexes: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, Row] = {}
        self.add_columns(columns)

    def add_columns(self, columns: dict[str, ColumnType]) -> None:
        """Columns are listed as Cassandra keeps them: the key first, the others by name."""
        together = self.columns | columns
        key = [*self.primary_key["partitionBy"], *self.primary_key["partitionSort"]]
        self.columns = {name: together[name] for name in [*key, *sorted(together.keys() - set(key))]}

    @property
    def key(self) -> str:
        """The one column of the primary key. Raises Refusal for a key of several, which needs two conditions."""
        columns = self.primary_key["partitionBy"]
        if len(columns) != 1 or self.primary_key["partitionSort"]:
            raise unsupported_query("the stand-in reads and writes no table whose key has several columns")
        return str(columns[0])

    @property
    def indexed_columns(self) -> set[str]:
        return {str(index["definition"]["column"]) for index in self.indexes.values()}

    def described(self) -> dict[str, Any]:
        """The definition as `listTables` explains it."""
        listed = {name: column.listed for name, column in self.columns.items()}
        return {"columns": listed, "primaryKey": self.primary_key}

    def insert(self, key: str, cells: Mapping[str, Any]) -> None:
        """Writes over a row of that key, cell by cell; None empties a cell."""
        self._write(key, cells, inserted=True)

    def update(self, key: str, cells: Mapping[str, Any]) -> None:
        """Makes the row when it is missing and at least one cell gets a value."""
        self._write(key, cells, inserted=False)

    def _write(self, key: str, cells: Mapping[str, Any], *, inserted: bool) -> None:
        before = self.rows.get(key) or Row(position_of(key), {self.key: key}, inserted=False)
        merged = {name: value for name, value in {**before.cells, **cells}.items() if value is not None}
        if inserted or before.inserted or len(merged) > 1:
            self.rows[key] = Row(before.position, merged, inserted or before.inserted)
        else:
            self.rows.pop(key, None)

    def answered(self, row: Row, names: list[str]) -> dict[str, Any]:
        """The named columns of a row in JSON, those without a value left out."""
        return {name: to_answer(self.columns[name], row.cells[name]) for name in names if name in row.cells}

    def read_cells(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Cells out of JSON, for an INSERT. Raises Refusal."""
        unknown = sorted(document.keys() - self.columns.keys())
        if unknown:
            raise Refusal("DOCUMENT", "UNKNOWN_TABLE_COLUMNS", f"no such columns: {unknown}")
        try:
            return {name: to_stored(self.columns[name], value) for name, value in document.items()}
        except ValueError as problem:
            raise Refusal("DOCUMENT", "INVALID_COLUMN_VALUES", str(problem)) from None


def create_table(definition: Any) -> Table:
    """A table by the definition of `createTable`. Raises Refusal."""
    fields = read_fields(definition, required=("columns", "primaryKey"), where="table definition")
    described = read_fields(fields["columns"], optional=fields["columns"], where="columns")
    columns = {name: read_type(column) for name, column in described.items()}
    primary_key = _read_primary_key(fields["primaryKey"])
    unknown = [name for name in (*primary_key["partitionBy"], *primary_key["partitionSort"]) if name not in columns]
    if unknown:
        raise Refusal("SCHEMA", "UNKNOWN_PARTITION_COLUMNS", f"no such columns: {unknown}")
    return Table(columns, primary_key)


def preexisting_table(definition: dict[str, Any]) -> Table:
    """A table by what `listTables` explains of it, whatever the types: as if CQL had made it."""
    columns = {}
    for name, listed in definition["columns"].items():
        try:
            columns[name] = read_type(listed)
        except Refusal:
            columns[name] = foreign_type(listed)
    return Table(columns, _read_primary_key(definition["primaryKey"]))


def _read_primary_key(primary_key: Any) -> dict[str, Any]:
    described = {"partitionBy": [primary_key]} if isinstance(primary_key, str) else primary_key
    fields = read_fields(described, required=("partitionBy",), optional=("partitionSort",), where="primary key")
    if not isinstance(fields["partitionBy"], list) or not fields["partitionBy"]:
        raise Refusal("SCHEMA", "MISSING_PARTITION_COLUMNS", "a table needs a partition key")
    return {"partitionBy": fields["partitionBy"], "partitionSort": fields.get("partitionSort") or {}}
