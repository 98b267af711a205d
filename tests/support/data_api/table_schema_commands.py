"""The commands that change and list what belongs to one table: columns and indexes."""

from collections.abc import Iterable
from typing import Any

from tests.support.data_api.answers import OK, Answer
from tests.support.data_api.columns import ColumnType, read_type
from tests.support.data_api.command_fields import read_fields, read_flag, read_options, read_schema_name
from tests.support.data_api.refusals import Refusal
from tests.support.data_api.table import Table

_TEXT_OPTIONS = {"ascii": False, "caseSensitive": True, "normalize": False}


def alter_table(table: Table, body: Any) -> Answer:
    """Adds columns; the stand-in knows no other change."""
    operation = read_fields(body, required=("operation",))["operation"]
    added = read_fields(operation, required=("add",), where="operation")["add"]
    described = read_fields(added, required=("columns",), where="operation")["columns"]
    columns = {name: read_type(column) for name, column in read_fields(described, optional=described).items()}
    existing = sorted(columns.keys() & table.columns.keys())
    if existing:
        raise Refusal("SCHEMA", "CANNOT_ADD_EXISTING_COLUMNS", f"{existing} are there")
    table.add_columns(columns)
    return OK


def create_index(table: Table, body: Any, *, other_indexes: Iterable[str]) -> Answer:
    """Makes an index; its name is unique in the keyspace, whose other tables have `other_indexes`."""
    fields = read_fields(body, required=("name", "definition"), optional=("options",))
    name = read_schema_name(fields)
    index = _read_index(table, name, fields["definition"])
    if_not_exists = read_flag(read_options(fields, "ifNotExists"), "ifNotExists")
    taken = name in table.indexes or name in other_indexes
    if not taken and index["definition"]["column"] not in table.indexed_columns:
        table.indexes[name] = index
    elif not if_not_exists:
        code, scope = ("CANNOT_ADD_EXISTING_INDEX", "SCHEMA") if taken else ("INVALID_DATABASE_QUERY", "DATABASE")
        raise Refusal(scope, code, "the index is there", status={"ok": 0})
    return OK


def list_indexes(table: Table, body: Any) -> Answer:
    options = read_options(read_fields(body, optional=("options",)), "explain")
    explain = read_flag(options, "explain")
    return Answer(status={"indexes": list(table.indexes.values()) if explain else list(table.indexes)})


def _read_index(table: Table, name: str, definition: Any) -> dict[str, Any]:
    """The index as `listIndexes` explains it."""
    fields = read_fields(definition, required=("column",), optional=("options",), where="index definition")
    column = fields["column"]
    if not isinstance(column, str) or column not in table.columns:
        raise Refusal("SCHEMA", "UNKNOWN_INDEX_COLUMN", f"no such column: {column}")
    described = {"column": column, "options": _index_options(table.columns[column], fields.get("options"))}
    return {"name": name, "definition": described, "indexType": "regular"}


def _index_options(column: ColumnType, options: Any) -> dict[str, Any]:
    """Options other than the defaults would change what a filter finds, and the stand-in does not model that."""
    defaults = _TEXT_OPTIONS if "text" in (column.name, column.member) else {}
    given = read_fields(options or {}, optional=defaults, where="index options")
    if any(defaults[name] != value for name, value in given.items()):
        raise Refusal("SCHEMA", "INVALID_INDEX_DEFINITION", "the stand-in only knows the default options")
    return defaults if column.name == "text" or options is not None else {}
