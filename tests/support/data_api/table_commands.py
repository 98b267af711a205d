"""The commands that read and write the rows of a table."""

import json
from typing import Any

from tests.support.data_api.answers import Answer
from tests.support.data_api.command_fields import read_fields, read_options
from tests.support.data_api.pages import cut_page, first
from tests.support.data_api.projections import read_projection
from tests.support.data_api.refusals import Refusal, error
from tests.support.data_api.table import Table
from tests.support.data_api.table_filters import Condition, find_rows, read_condition, read_key
from tests.support.data_api.table_updates import apply_update, read_update

_UPDATED = Answer(status={"matchedCount": 1, "modifiedCount": 1})  # whether or not the row was there
_DELETED = Answer(status={"deletedCount": -1})


def insert_one(table: Table, body: Any) -> Answer:
    """Writes a row, or over it."""
    document = read_fields(body, required=("document",))["document"]
    if not isinstance(document, dict) or document.get(table.key) is None:
        raise Refusal("DOCUMENT", "MISSING_PRIMARY_KEY_COLUMNS", f"{table.key} is missing")
    cells = table.read_cells(document)
    table.insert(cells[table.key], cells)
    key_schema = {table.key: table.columns[table.key].listed}
    return Answer(status={"insertedIds": [[cells[table.key]]], "primaryKeySchema": key_schema})


def find_one(table: Table, body: Any) -> Answer:
    fields = read_fields(body, optional=("filter", "projection", "options"))
    read_options(fields)
    condition = read_condition(table, fields.get("filter"))
    names = _projected(table, fields)
    row = first(find_rows(table, condition))
    document = None if row is None else table.answered(row, names)
    return Answer(data={"document": document}, status=_read_status(table, condition, names))


def find(table: Table, body: Any) -> Answer:
    """One page of rows, 50 at most: a `$in` of 100 keys may take two."""
    fields = read_fields(body, optional=("filter", "projection", "options"))
    options = read_options(fields, "limit", "pageState")
    condition = read_condition(table, fields.get("filter"))
    names = _projected(table, fields)
    query = json.dumps([table.identity, fields.get("filter"), names], sort_keys=True)
    keys = condition.values if condition is not None and condition.column == table.key else None
    page = cut_page(find_rows(table, condition), query, options, keys)
    documents = [table.answered(row, names) for row in page.entries]
    return Answer(
        data={"documents": documents, "nextPageState": page.next_state},
        status=_read_status(table, condition, names),
        rows=max(1, len(documents)),
    )


def update_one(table: Table, body: Any) -> Answer:
    """Changes a row, or makes it."""
    fields = read_fields(body, required=("update",), optional=("filter",))
    key = read_key(table, fields.get("filter"))
    changes = read_update(table, fields["update"])
    row = table.rows.get(key)
    table.update(key, apply_update(changes, row.cells if row else {}))
    return _UPDATED


def delete_one(table: Table, body: Any) -> Answer:
    fields = read_fields(body, optional=("filter",))
    table.rows.pop(read_key(table, fields.get("filter")), None)
    return _DELETED


def _projected(table: Table, fields: dict[str, Any]) -> list[str]:
    projection = read_projection(fields.get("projection"))
    unknown = sorted(projection.names - table.columns.keys())
    if unknown:
        raise Refusal("PROJECTION", "UNKNOWN_TABLE_COLUMNS", f"no such columns: {unknown}")
    return projection.choose(table.columns)


def _read_status(table: Table, condition: Condition | None, names: list[str]) -> dict[str, Any]:
    schema = {"projectionSchema": {name: table.columns[name].listed for name in names}}
    code = _warning(table, condition)
    if code is None:
        return schema
    return {"warnings": [error(code, scope="WARNING", message="the whole table is read")], **schema}


def _warning(table: Table, condition: Condition | None) -> str | None:
    if condition is None:
        return "ZERO_FILTER_OPERATIONS"
    if condition.column == table.key or condition.column in table.indexed_columns:
        return None
    return "MISSING_INDEX"
