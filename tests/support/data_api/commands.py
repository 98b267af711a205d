"""All commands by what they are for: the database, a keyspace, a table or a collection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.data_api import collection, schema, table
from tests.support.data_api.collection import Collection
from tests.support.data_api.errors import Refusal
from tests.support.data_api.schema import Keyspace, Keyspaces
from tests.support.data_api.table import Table

Answer = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """What carries out a command, and what it takes; an unknown field would go unnoticed and is refused."""

    run: Callable[[Any, dict[str, Any]], Answer]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


_READ = ("filter", "projection")
_NEW = ("name", "definition")
_UPDATE_OPTIONS = ("upsert", "returnDocument")

_COMMANDS: dict[type, dict[str, Command]] = {
    Keyspaces: {
        "createKeyspace": Command(schema.create_keyspace, ("name",), options=("replication",)),
        "dropKeyspace": Command(schema.drop_keyspace, ("name",)),
        "findKeyspaces": Command(schema.find_keyspaces),
    },
    Keyspace: {
        "createTable": Command(schema.create_table, _NEW, options=("ifNotExists",)),
        "dropTable": Command(schema.drop_table, ("name",), options=("ifExists",)),
        "listTables": Command(schema.list_tables, options=("explain",)),
        "dropIndex": Command(schema.drop_index, ("name",), options=("ifExists",)),
        "createCollection": Command(schema.create_collection, ("name",), options=("indexing", "lexical")),
        "deleteCollection": Command(schema.delete_collection, ("name",)),
        "findCollections": Command(schema.find_collections, options=("explain",)),
    },
    Table: {
        "alterTable": Command(schema.alter_table, ("operation",)),
        "createIndex": Command(schema.create_index, _NEW, options=("ifNotExists",)),
        "listIndexes": Command(schema.list_indexes, options=("explain",)),
        "insertOne": Command(table.insert_one, ("document",)),
        "findOne": Command(table.find_one, optional=_READ),
        "find": Command(table.find, optional=(*_READ, "sort"), options=("limit", "pageState")),
        "updateOne": Command(table.update_one, ("update",), ("filter",)),
        "deleteOne": Command(table.delete_one, optional=("filter",)),
    },
    Collection: {
        "insertOne": Command(collection.insert_one, ("document",)),
        "insertMany": Command(collection.insert_many, ("documents",), options=("ordered", "returnDocumentResponses")),
        "findOne": Command(collection.find_one, optional=_READ),
        "find": Command(collection.find, optional=_READ, options=("limit", "pageState")),
        "countDocuments": Command(collection.count_documents, optional=("filter",)),
        "estimatedDocumentCount": Command(collection.estimated_document_count),
        "updateOne": Command(collection.update_one, ("update",), ("filter",), ("upsert",)),
        "deleteOne": Command(collection.delete_one, optional=("filter",)),
        "findOneAndUpdate": Command(collection.find_one_and_update, ("update",), _READ, _UPDATE_OPTIONS),
        "findOneAndReplace": Command(collection.find_one_and_replace, ("replacement",), _READ, _UPDATE_OPTIONS),
        "findOneAndDelete": Command(collection.find_one_and_delete, optional=_READ),
    },
}
_UNKNOWN = {Table: "UNSUPPORTED_TABLE_COMMAND", Collection: "UNSUPPORTED_COLLECTION_COMMAND"}


def execute(keyspaces: Keyspaces, path: list[str], body: Any) -> Answer:
    """Carries out the command of a request to a keyspace, and a table or collection in it. Raises Refusal.

    Each command writes last, so that none is left half done.
    """
    target: Any = keyspaces
    for name in path:
        target = target.find(name)
    try:
        ((name, fields),) = body.items()
        if name not in _COMMANDS[type(target)]:
            raise Refusal("", _UNKNOWN.get(type(target), "COMMAND_UNKNOWN"), f"{name} is not known here")
        command = _COMMANDS[type(target)][name]
        return command.run(target, _checked(command, fields))
    except (AttributeError, LookupError, TypeError, ValueError) as problem:
        # Something in the request is missing or of another type than the command takes.
        raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", repr(problem)) from problem


def _checked(command: Command, given: Any) -> dict[str, Any]:
    """Returns the fields of a command, its options among them in any case. Raises Refusal."""
    fields: dict[str, Any] = given | {"options": given.get("options") or {}}
    if fields.keys() - {*command.required, *command.optional, "options"}:
        raise Refusal("", "COMMAND_FIELD_UNKNOWN", f"of the fields {set(fields)}, not all are known here")
    if fields["options"].keys() - set(command.options):
        raise Refusal("", "COMMAND_FIELD_UNKNOWN", f"of the options {fields['options']}, not all are known here")
    if any(fields.get(name) is None for name in command.required):
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", f"the fields {command.required} are required")
    return fields
