"""The database and its keyspaces, and the dispatch of commands."""

from typing import Any

from tests.support.fake_data_api.collection import Collection
from tests.support.fake_data_api.errors import Answer, Refusal
from tests.support.fake_data_api.table import Table

MOST_COLLECTIONS = 5  # in all keyspaces together
_OK: Answer = {"status": {"ok": 1}}


class Keyspace(dict[str, Table | Collection]):
    """Tables and collections, which share their names. The public methods are the API's commands."""

    def __init__(self, database: "Database") -> None:
        super().__init__()
        self._database = database

    def __missing__(self, name: str) -> Table | Collection:
        raise Refusal("SCHEMA", "UNKNOWN_COLLECTION_OR_TABLE", f"there is no collection or table {name}")

    @property
    def _tables(self) -> dict[str, Table]:
        return {name: found for name, found in self.items() if isinstance(found, Table)}

    @property
    def _collections(self) -> dict[str, Collection]:
        return {name: found for name, found in self.items() if isinstance(found, Collection)}

    def createTable(self, name: str, definition: Any, *, ifNotExists: bool = False) -> Answer:
        table = Table(definition)
        if name in self and not ifNotExists:
            raise Refusal("SCHEMA", "CANNOT_ADD_EXISTING_TABLE", f"{name} exists", status={"ok": 0})
        self.setdefault(name, table)
        return _OK

    def listTables(self, *, explain: bool = False) -> Answer:
        return {"status": {"tables": [_described(*table) if explain else table[0] for table in self._tables.items()]}}

    def createCollection(self, name: str, *, indexing: Any = None, lexical: Any = None) -> Answer:
        """Create a collection; repeating it with the same settings changes nothing. `lexical` can only be disabled."""
        if lexical not in (None, {"enabled": False}):
            raise Refusal("SCHEMA", "LEXICAL_NOT_AVAILABLE_FOR_DATABASE", "Apache Cassandra 5.0 has no index of words")
        options = {} if indexing is None else {"indexing": indexing}
        if name in self._tables:
            raise Refusal("SCHEMA", "EXISTING_TABLE_NOT_DATA_API_COLLECTION", f"{name} is a table")
        if name not in self and sum(len(other._collections) for other in self._database.values()) >= MOST_COLLECTIONS:
            raise Refusal("SCHEMA", "TOO_MANY_COLLECTIONS", f"a database has {MOST_COLLECTIONS} collections at most")
        self.setdefault(name, Collection(options))
        if self._collections[name].options != options:
            raise Refusal("SCHEMA", "EXISTING_COLLECTION_DIFFERENT_SETTINGS", f"{name} has other settings")
        return _OK

    def findCollections(self, *, explain: bool = False) -> Answer:
        explained = [{"name": name, "options": found.options} for name, found in self._collections.items()]
        return {"status": {"collections": explained if explain else list(self._collections)}}


class Database(dict[str, Keyspace]):
    """Keyspaces by name. The public methods are the API's commands."""

    def __missing__(self, name: str) -> Keyspace:
        raise Refusal("SCHEMA", "UNKNOWN_KEYSPACE", f"there is no keyspace {name}")

    def createKeyspace(self, name: str, *, replication: Any = None) -> Answer:
        self.setdefault(name, Keyspace(self))
        return _OK


def execute(database: Database, path: list[str], body: Any) -> Answer:
    """Carry out the command in a request to the database, a keyspace, or a table or collection. Raise Refusal.

    A command is the public method of that name. Positional parameters are the command's fields, keyword-only ones its
    options. Unknown ones are refused. Each command writes in its last step, so a refused one changes nothing.
    """
    target: Any = database
    for name in path:
        target = target[name]
    try:
        ((name, fields),) = body.items()
        command = None if name.startswith("_") else vars(type(target)).get(name)
        if command is None:
            raise Refusal("", "COMMAND_UNKNOWN", f"{name} is not known here")
        options, known = fields.get("options") or {}, command.__kwdefaults__ or {}
        fields = {field: value for field, value in fields.items() if field != "options"}
        if options.keys() - known.keys() or fields.keys() & known.keys():
            raise Refusal("", "COMMAND_FIELD_UNKNOWN", f"the options that are known here are {list(known)}")
        answer: Answer = command(target, **fields, **options)
    except (AttributeError, LookupError, TypeError, ValueError) as problem:
        # A field of the command is missing or of the wrong type.
        raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", repr(problem)) from problem
    return answer


def _described(name: str, table: Table) -> dict[str, Any]:
    key = {"partitionBy": table.partition, "partitionSort": table.clustering}
    return {"name": name, "definition": {"columns": table.columns, "primaryKey": key}}
