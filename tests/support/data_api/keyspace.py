"""One keyspace: its tables and collections, and the commands that make, list and drop them."""

from typing import Any

from tests.support.data_api.answers import OK, Answer
from tests.support.data_api.collection import Collection
from tests.support.data_api.command_fields import read_fields, read_flag, read_options, read_schema_name
from tests.support.data_api.refusals import Refusal
from tests.support.data_api.table import Table, create_table

_SETTINGS = ("indexing", "defaultId")
# A collection on Apache Cassandra has neither, and says so.
_FEATURES = {"lexical": {"enabled": False}, "rerank": {"enabled": False}}


class Keyspace:
    """Tables and collections share their names."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.collections: dict[str, Collection] = {}

    def find(self, name: str) -> Table | Collection:
        """Raises Refusal when there is neither a table nor a collection of that name."""
        found = self.tables.get(name) or self.collections.get(name)
        if found is None:
            raise Refusal("SCHEMA", "UNKNOWN_COLLECTION_OR_TABLE", f"no such collection or table: {name}")
        return found


def make_table(keyspace: Keyspace, body: Any) -> Answer:
    fields = read_fields(body, required=("name", "definition"), optional=("options",))
    name = read_schema_name(fields)
    if_not_exists = read_flag(read_options(fields, "ifNotExists"), "ifNotExists")
    table = create_table(fields["definition"])
    if name not in keyspace.tables and name not in keyspace.collections:
        keyspace.tables[name] = table
    elif not if_not_exists:
        raise Refusal("SCHEMA", "CANNOT_ADD_EXISTING_TABLE", f"{name} is there", status={"ok": 0})
    return OK


def drop_table(keyspace: Keyspace, body: Any) -> Answer:
    fields = read_fields(body, required=("name",), optional=("options",))
    if_exists = read_flag(read_options(fields, "ifExists"), "ifExists")
    if keyspace.tables.pop(read_schema_name(fields), None) is None and not if_exists:
        raise Refusal("SCHEMA", "CANNOT_DROP_UNKNOWN_TABLE", "no such table", status={"ok": 0})
    return OK


def list_tables(keyspace: Keyspace, body: Any) -> Answer:
    if not _explains(body):
        return Answer(status={"tables": list(keyspace.tables)})
    explained = [{"name": name, "definition": table.described()} for name, table in keyspace.tables.items()]
    return Answer(status={"tables": explained})


def make_collection(keyspace: Keyspace, body: Any) -> Answer:
    """Repeats without complaint, unless the settings differ."""
    fields = read_fields(body, required=("name",), optional=("options",))
    name = read_schema_name(fields)
    options = read_options(fields, *_SETTINGS)
    indexing = options.get("indexing")
    if indexing is not None and (not isinstance(indexing, dict) or indexing.keys() not in ({"allow"}, {"deny"})):
        raise Refusal("SCHEMA", "INVALID_INDEXING_DEFINITION", "indexing either allows or denies")
    if name in keyspace.tables:
        raise Refusal("SCHEMA", "EXISTING_TABLE_NOT_DATA_API_COLLECTION", f"{name} is a table")
    if keyspace.collections.setdefault(name, Collection(options)).options != options:
        raise Refusal("SCHEMA", "EXISTING_COLLECTION_DIFFERENT_SETTINGS", f"{name} has other settings")
    return OK


def delete_collection(keyspace: Keyspace, body: Any) -> Answer:
    """Drops it, or finds nothing to drop."""
    keyspace.collections.pop(read_schema_name(read_fields(body, required=("name",))), None)
    return OK


def find_collections(keyspace: Keyspace, body: Any) -> Answer:
    if not _explains(body):
        return Answer(status={"collections": list(keyspace.collections)})
    explained = [
        {"name": name, "options": {**collection.options, **_FEATURES}}
        for name, collection in keyspace.collections.items()
    ]
    return Answer(status={"collections": explained})


def drop_index(keyspace: Keyspace, body: Any) -> Answer:
    fields = read_fields(body, required=("name",), optional=("options",))
    name = read_schema_name(fields)
    dropped = [table.indexes.pop(name) for table in keyspace.tables.values() if name in table.indexes]
    if not dropped and not read_flag(read_options(fields, "ifExists"), "ifExists"):
        raise Refusal("SCHEMA", "CANNOT_DROP_UNKNOWN_INDEX", "no such index", status={"ok": 0})
    return OK


def _explains(body: Any) -> bool:
    return read_flag(read_options(read_fields(body, optional=("options",)), "explain"), "explain")
