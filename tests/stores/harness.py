"""What the store suite needs of each store, and the list of stores that it runs on."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from uuid import UUID

from killrvideo_grpc.domain.ports import UserStore
from killrvideo_grpc.stores.astra import AstraStore
from killrvideo_grpc.stores.data_api import USERS, Connection, DataApi
from killrvideo_grpc.stores.sqlite import SqliteStore
from tests.support.keyspaces import REAL_URL, prepared_stand_in, real_keyspace


class Harness(Protocol):
    """One database, and as many stores on it as a test opens."""

    def open(self) -> UserStore:
        """Opens another store on the same database, as another process would."""

    def suspend(self, user_id: UUID) -> None:
        """Suspends an account, as a moderator's tool would: straight in the database."""

    def remove(self, user_id: UUID) -> None:
        """Removes an account from what `get` reads, straight in the database."""


class SqliteHarness:
    """A file in a folder of the test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> UserStore:
        return SqliteStore(self.path)

    def suspend(self, user_id: UUID) -> None:
        self._execute("UPDATE users SET account_status = 'suspended' WHERE userid = ?", user_id)

    def remove(self, user_id: UUID) -> None:
        self._execute("DELETE FROM users WHERE userid = ?", user_id)

    def _execute(self, statement: str, user_id: UUID) -> None:
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(statement, [str(user_id)])
        connection.close()


@contextmanager
def sqlite_harness(folder: Path) -> Iterator[Harness]:
    yield SqliteHarness(folder / "killrvideo.db")


class DataApiHarness:
    """A keyspace of a Data API, real or a stand-in."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._api = DataApi(connection)
        self._users = self._api.database.get_table(USERS)

    def open(self) -> AstraStore:
        return AstraStore(DataApi(self.connection))

    def suspend(self, user_id: UUID) -> None:
        self._users.update_one({"userid": user_id}, {"$set": {"account_status": "suspended"}})

    def remove(self, user_id: UUID) -> None:
        self._users.delete_one({"userid": user_id})

    def close(self) -> None:
        self._api.close()


@contextmanager
def stand_in_harness(folder: Path) -> Iterator[Harness]:
    with prepared_stand_in() as (_, connection):
        harness = DataApiHarness(connection)
        yield harness
        harness.close()


@contextmanager
def real_harness(folder: Path) -> Iterator[Harness]:
    with real_keyspace() as connection:
        harness = DataApiHarness(connection)
        yield harness
        harness.close()


# The next store adds itself here, and the suite runs on it.
STORES: dict[str, Callable[[Path], AbstractContextManager[Harness]]] = {
    "sqlite": sqlite_harness,
    "stand-in": stand_in_harness,
}
if REAL_URL:
    STORES["data-api"] = real_harness
