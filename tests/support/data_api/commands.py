"""Which command goes where: to the API as a whole, to a keyspace, to a table or to a collection."""

from collections.abc import Callable
from typing import Any, TypeVar

from tests.support.data_api import collection, keyspace, table_commands, table_schema_commands
from tests.support.data_api.answers import OK, Answer
from tests.support.data_api.collection import Collection
from tests.support.data_api.command_fields import read_fields, read_options, read_schema_name
from tests.support.data_api.keyspace import Keyspace
from tests.support.data_api.refusals import Refusal

Keyspaces = dict[str, Keyspace]
RunT = TypeVar("RunT")


def execute(keyspaces: Keyspaces, keyspace_name: str | None, name: str | None, payload: Any) -> Answer:
    """Carries out the one command of a request. The caller holds the lock of the state. Raises Refusal."""
    if not isinstance(payload, dict) or len(payload) != 1:
        raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", "a request is an object with one command")
    command, body = next(iter(payload.items()))
    if keyspace_name is None:
        return _known(_GENERAL, command)(keyspaces, body)
    if name is None:
        run = _known(_ON_KEYSPACE, command)
        return run(find_keyspace(keyspaces, keyspace_name), body)
    _known(_ON_TABLE | _ON_COLLECTION, command)
    return _execute_on(find_keyspace(keyspaces, keyspace_name), name, command, body)


def find_keyspace(keyspaces: Keyspaces, name: str) -> Keyspace:
    """Raises Refusal when there is none of that name."""
    if name not in keyspaces:
        raise Refusal("SCHEMA", "UNKNOWN_KEYSPACE", f"no such keyspace: {name}")
    return keyspaces[name]


def _execute_on(keyspace_: Keyspace, name: str, command: str, body: Any) -> Answer:
    target = keyspace_.find(name)
    if isinstance(target, Collection):
        if command not in _ON_COLLECTION:
            raise Refusal("", "UNSUPPORTED_COLLECTION_COMMAND", f"{command} is not for collections")
        return _ON_COLLECTION[command](target, body)
    if command not in _ON_TABLE:
        raise Refusal("", "UNSUPPORTED_TABLE_COMMAND", f"{command} is not for tables")
    if command == "createIndex":
        others = {index for table in keyspace_.tables.values() if table is not target for index in table.indexes}
        return table_schema_commands.create_index(target, body, other_indexes=others)
    return _ON_TABLE[command](target, body)


def _known(commands: dict[str, RunT], command: str) -> RunT:
    if command not in commands:
        raise Refusal("", "COMMAND_UNKNOWN", f"the stand-in does not know {command} here")
    return commands[command]


def _create_keyspace(keyspaces: Keyspaces, body: Any) -> Answer:
    fields = read_fields(body, required=("name",), optional=("options",))
    replication = read_options(fields, "replication").get("replication") or {"class": "SimpleStrategy"}
    if not isinstance(replication, dict) or replication.get("class") not in _STRATEGIES:
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", f"a strategy is one of {_STRATEGIES}")
    keyspaces.setdefault(read_schema_name(fields), Keyspace())
    return OK


def _drop_keyspace(keyspaces: Keyspaces, body: Any) -> Answer:
    keyspaces.pop(read_schema_name(read_fields(body, required=("name",))), None)
    return OK


def _find_keyspaces(keyspaces: Keyspaces, body: Any) -> Answer:
    read_fields(body)
    return Answer(status={"keyspaces": list(keyspaces)})


_STRATEGIES = ("SimpleStrategy", "NetworkTopologyStrategy")
_GENERAL: dict[str, Callable[[Keyspaces, Any], Answer]] = {
    "createKeyspace": _create_keyspace,
    "dropKeyspace": _drop_keyspace,
    "findKeyspaces": _find_keyspaces,
}
_ON_KEYSPACE: dict[str, Callable[[Keyspace, Any], Answer]] = {
    "createTable": keyspace.make_table,
    "dropTable": keyspace.drop_table,
    "listTables": keyspace.list_tables,
    "createCollection": keyspace.make_collection,
    "deleteCollection": keyspace.delete_collection,
    "findCollections": keyspace.find_collections,
    "dropIndex": keyspace.drop_index,
}
_ON_TABLE: dict[str, Callable[..., Answer]] = {
    "alterTable": table_schema_commands.alter_table,
    "createIndex": table_schema_commands.create_index,
    "listIndexes": table_schema_commands.list_indexes,
    "insertOne": table_commands.insert_one,
    "findOne": table_commands.find_one,
    "find": table_commands.find,
    "updateOne": table_commands.update_one,
    "deleteOne": table_commands.delete_one,
}
_ON_COLLECTION: dict[str, Callable[[Collection, Any], Answer]] = {
    "insertOne": collection.insert_one,
    "findOne": collection.find_one,
    "find": collection.find,
    "updateOne": collection.update_one,
    "findOneAndUpdate": collection.find_one_and_update,
    "deleteOne": collection.delete_one,
}
