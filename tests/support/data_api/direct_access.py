"""The state of a stand-in, without a request: what a test puts there beforehand and looks at afterwards."""

import copy
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tests.support.data_api.collection import Collection
from tests.support.data_api.commands import Keyspaces, find_keyspace
from tests.support.data_api.documents import id_key
from tests.support.data_api.keyspace import Keyspace
from tests.support.data_api.table import Table, preexisting_table

Key = UUID | str


class DirectAccess:
    """Values are as JSON has them: timestamps and uuids as text, sets as sorted lists, cells without value left out.

    Raises Refusal where the keyspace, table or collection is missing, and where a value does not fit.
    """

    def __init__(self) -> None:
        self._state = threading.Lock()
        self._keyspaces: Keyspaces = {}

    def put_keyspace(self, keyspace: str) -> None:
        with self._state:
            self._keyspaces.setdefault(keyspace, Keyspace())

    def put_table(self, keyspace: str, table: str, definition: dict[str, Any]) -> None:
        """Makes a table by what `listTables` explains of one, of whatever types: as if CQL had made it."""
        with self._state:
            find_keyspace(self._keyspaces, keyspace).tables[table] = preexisting_table(definition)

    def row(self, keyspace: str, table: str, key: Key) -> dict[str, Any] | None:
        with self._state:
            found = self._table(keyspace, table)
            row = found.rows.get(str(key))
            return None if row is None else found.answered(row, list(found.columns))

    def rows(self, keyspace: str, table: str) -> list[dict[str, Any]]:
        with self._state:
            found = self._table(keyspace, table)
            return [found.answered(row, list(found.columns)) for row in found.rows.values()]

    def put_row(self, keyspace: str, table: str, row: Mapping[str, Any]) -> None:
        """Writes a row as insertOne does: over one of the same key, cell by cell."""
        with self._state:
            found = self._table(keyspace, table)
            cells = found.read_cells(row)
            found.insert(cells[found.key], cells)

    def delete_row(self, keyspace: str, table: str, key: Key) -> None:
        with self._state:
            self._table(keyspace, table).rows.pop(str(key), None)

    def document(self, keyspace: str, collection: str, document_id: Any) -> dict[str, Any] | None:
        with self._state:
            found = self._collection(keyspace, collection).documents.get(id_key(document_id))
            return None if found is None else copy.deepcopy(dict(found.document))

    def documents(self, keyspace: str, collection: str) -> list[dict[str, Any]]:
        with self._state:
            found = self._collection(keyspace, collection).documents.values()
            return [copy.deepcopy(dict(stored.document)) for stored in found]

    def put_document(self, keyspace: str, collection: str, document: Mapping[str, Any]) -> None:
        """Keeps a document, in place of one of the same `_id`."""
        with self._state:
            self._collection(keyspace, collection).put(copy.deepcopy(dict(document)))

    def delete_document(self, keyspace: str, collection: str, document_id: Any) -> None:
        with self._state:
            self._collection(keyspace, collection).documents.pop(id_key(document_id), None)

    def _table(self, keyspace: str, name: str) -> Table:
        found = find_keyspace(self._keyspaces, keyspace).find(name)
        if isinstance(found, Collection):
            raise TypeError(f"{name} is a collection")
        return found

    def _collection(self, keyspace: str, name: str) -> Collection:
        found = find_keyspace(self._keyspaces, keyspace).find(name)
        if isinstance(found, Table):
            raise TypeError(f"{name} is a table")
        return found
