"""What a stand-in holds, and access to it without a request: what a test puts there and looks at."""

import copy
import threading
from typing import Any
from uuid import UUID

from tests.support.data_api.collection import Collection
from tests.support.data_api.commands import execute
from tests.support.data_api.schema import Keyspace, Keyspaces, read_table
from tests.support.data_api.table import Table

Json = dict[str, Any]
Key = UUID | str


class State:
    """Keyspaces and what is in them. One lock makes every command, and every access here, atomic.

    Values are as JSON has them: timestamps and uuids as text, sets as sorted lists, cells without a value left out.
    Raises Refusal where the keyspace, table or collection is missing, and where a value does not fit.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keyspaces = Keyspaces()

    def execute(self, path: list[str], body: Any) -> Json:
        """Carries out a command on the database, a keyspace, or a table or collection, as a request would."""
        with self._lock:
            return execute(self._keyspaces, path, body)

    def put_keyspace(self, keyspace: str) -> None:
        with self._lock:
            self._keyspaces.setdefault(keyspace, Keyspace(self._keyspaces))

    def put_table(self, keyspace: str, table: str, definition: Json) -> None:
        """Makes a table as `listTables` explains it, of whatever types: as if CQL had made it."""
        with self._lock:
            self._keyspaces.find(keyspace).tables[table] = read_table(definition, made_by_cql=True)

    def put_row(self, keyspace: str, table: str, row: Json) -> None:
        """Writes a row as insertOne does: over the cells of one with the same key."""
        with self._lock:
            self._table(keyspace, table).insert(row)

    def row(self, keyspace: str, table: str, key: Key) -> Json | None:
        with self._lock:
            return copy.deepcopy(self._table(keyspace, table).get((str(key),)))

    def rows(self, keyspace: str, table: str) -> list[Json]:
        with self._lock:
            return copy.deepcopy(self._table(keyspace, table).rows())

    def document(self, keyspace: str, collection: str, document_id: Any) -> Json | None:
        with self._lock:
            return copy.deepcopy(self._collection(keyspace, collection).get(document_id))

    def documents(self, keyspace: str, collection: str) -> list[Json]:
        with self._lock:
            return copy.deepcopy(self._collection(keyspace, collection).documents())

    def _table(self, keyspace: str, name: str) -> Table:
        found = self._keyspaces.find(keyspace).find(name)
        assert isinstance(found, Table), f"{name} is a collection"
        return found

    def _collection(self, keyspace: str, name: str) -> Collection:
        found = self._keyspaces.find(keyspace).find(name)
        assert isinstance(found, Collection), f"{name} is a table"
        return found
