"""Keyspaces, and the commands that make, list and drop what is in them."""

from typing import Any

from tests.support.data_api.collection import Collection
from tests.support.data_api.columns import Column, read_column
from tests.support.data_api.errors import Refusal
from tests.support.data_api.table import Table

Fields = dict[str, Any]
Answer = dict[str, Any]

MOST_COLLECTIONS = 5  # in all keyspaces together
_OK: Answer = {"status": {"ok": 1}}


class Keyspaces(dict[str, "Keyspace"]):
    """All keyspaces of the database, by name."""

    def find(self, name: str) -> "Keyspace":
        """Raises Refusal."""
        if name not in self:
            raise Refusal("SCHEMA", "UNKNOWN_KEYSPACE", f"there is no keyspace {name}")
        return self[name]


class Keyspace:
    """Tables and collections, which share their names."""

    def __init__(self, database: Keyspaces) -> None:
        self.database = database
        self.tables: dict[str, Table] = {}
        self.collections: dict[str, Collection] = {}

    def find(self, name: str) -> Table | Collection:
        """Raises Refusal."""
        found = self.tables.get(name) or self.collections.get(name)
        if found is None:
            raise Refusal("SCHEMA", "UNKNOWN_COLLECTION_OR_TABLE", f"there is no collection or table {name}")
        return found


def create_keyspace(keyspaces: Keyspaces, fields: Fields) -> Answer:
    keyspaces.setdefault(fields["name"], Keyspace(keyspaces))
    return _OK


def drop_keyspace(keyspaces: Keyspaces, fields: Fields) -> Answer:
    keyspaces.pop(fields["name"], None)
    return _OK


def find_keyspaces(keyspaces: Keyspaces, _: Fields) -> Answer:
    return {"status": {"keyspaces": list(keyspaces)}}


def create_table(keyspace: Keyspace, fields: Fields) -> Answer:
    name, table = fields["name"], read_table(fields["definition"])
    if name in keyspace.tables or name in keyspace.collections:
        return _exists(fields, "TABLE")
    keyspace.tables[name] = table
    return _OK


def drop_table(keyspace: Keyspace, fields: Fields) -> Answer:
    return _drop(keyspace.tables, fields, "TABLE")


def list_tables(keyspace: Keyspace, fields: Fields) -> Answer:
    if not fields["options"].get("explain"):
        return {"status": {"tables": list(keyspace.tables)}}
    return {"status": {"tables": [_described(name, table) for name, table in keyspace.tables.items()]}}


def alter_table(table: Table, fields: Fields) -> Answer:
    """Adds columns; the stand-in knows no other change."""
    columns = fields["operation"]["add"]["columns"]
    existing = columns.keys() & table.columns.keys()
    if existing:
        raise Refusal("SCHEMA", "CANNOT_ADD_EXISTING_COLUMNS", f"there are columns {existing}")
    table.add_columns({name: read_column(column) for name, column in columns.items()})
    return _OK


def create_index(table: Table, fields: Fields) -> Answer:
    name, definition = fields["name"], fields["definition"]
    if name in table.indexes:
        return _exists(fields, "INDEX")
    if definition.keys() != {"column"}:
        raise Refusal("SCHEMA", "INVALID_INDEX_DEFINITION", "an index with options is not known here")
    table.check_columns([definition["column"]], "SCHEMA")
    table.indexes[name] = {"name": name, "definition": definition | {"options": {}}, "indexType": "regular"}
    return _OK


def list_indexes(table: Table, fields: Fields) -> Answer:
    explained = fields["options"].get("explain")
    return {"status": {"indexes": list(table.indexes.values() if explained else table.indexes)}}


def drop_index(keyspace: Keyspace, fields: Fields) -> Answer:
    holder = next((table.indexes for table in keyspace.tables.values() if fields["name"] in table.indexes), {})
    return _drop(holder, fields, "INDEX")


def create_collection(keyspace: Keyspace, fields: Fields) -> Answer:
    """Makes a collection; to repeat it with the same settings changes nothing."""
    name, options = fields["name"], fields["options"]
    if name in keyspace.tables:
        raise Refusal("SCHEMA", "EXISTING_TABLE_NOT_DATA_API_COLLECTION", f"{name} is a table")
    if name not in keyspace.collections:
        if sum(len(other.collections) for other in keyspace.database.values()) >= MOST_COLLECTIONS:
            raise Refusal("SCHEMA", "TOO_MANY_COLLECTIONS", f"a database has {MOST_COLLECTIONS} collections at most")
        keyspace.collections[name] = Collection(options)
    if keyspace.collections[name].options != options:
        raise Refusal("SCHEMA", "EXISTING_COLLECTION_DIFFERENT_SETTINGS", f"{name} has other settings")
    return _OK


def delete_collection(keyspace: Keyspace, fields: Fields) -> Answer:
    keyspace.collections.pop(fields["name"], None)
    return _OK


def find_collections(keyspace: Keyspace, fields: Fields) -> Answer:
    if not fields["options"].get("explain"):
        return {"status": {"collections": list(keyspace.collections)}}
    explained = [{"name": name, "options": found.options} for name, found in keyspace.collections.items()]
    return {"status": {"collections": explained}}


def read_table(definition: Any, *, made_by_cql: bool = False) -> Table:
    """Returns a new table. One that CQL made may have columns of types that can't be read and written here.

    Raises Refusal.
    """
    columns: dict[str, Column] = {}
    for name, column in definition["columns"].items():
        columns[name] = column if made_by_cql and isinstance(column, dict) else read_column(column)
    key = definition["primaryKey"]
    key = {"partitionBy": [key]} if isinstance(key, str) else key
    partition, clustering = key["partitionBy"], key.get("partitionSort") or {}
    if not {*partition, *clustering} <= columns.keys():
        raise Refusal("SCHEMA", "UNKNOWN_PARTITION_COLUMNS", f"not all of the key are columns: {key}")
    return Table(columns, partition, clustering)


def _described(name: str, table: Table) -> dict[str, Any]:
    key = {"partitionBy": table.partition, "partitionSort": table.clustering}
    return {"name": name, "definition": {"columns": table.columns, "primaryKey": key}}


def _exists(fields: Fields, kind: str) -> Answer:
    if fields["options"].get("ifNotExists"):
        return _OK
    raise Refusal("SCHEMA", f"CANNOT_ADD_EXISTING_{kind}", f"{fields['name']} exists", status={"ok": 0})


def _drop(holder: dict[str, Any], fields: Fields, kind: str) -> Answer:
    if holder.pop(fields["name"], None) is None and not fields["options"].get("ifExists"):
        raise Refusal("SCHEMA", f"CANNOT_DROP_UNKNOWN_{kind}", f"there is no {fields['name']}", status={"ok": 0})
    return _OK
