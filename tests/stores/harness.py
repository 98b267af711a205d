"""The stores that the suite runs on, and what it needs from each."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.support.memory_store import MemoryDatabase, MemoryStore

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api.client import Keyspace


class Harness(Protocol):
    """One database, on which tests can open any number of stores."""

    def open(self) -> AccountStore:
        """Open another store on the database, as another process would."""

    def raw_text(self) -> str:
        """Return everything in the database as text, to search for data that should be gone."""


class MemoryHarness:
    """A database in memory."""

    def __init__(self) -> None:
        self._database = MemoryDatabase()

    def open(self) -> AccountStore:
        return MemoryStore(self._database)

    def raw_text(self) -> str:
        codes = [account.reset_code for account in self._database.accounts.values()]
        return repr((vars(self._database), [code.digest for code in codes if code]))


@contextmanager
def memory_harness(folder: Path) -> Iterator[Harness]:
    yield MemoryHarness()


class SqliteHarness:
    """A database file in a temporary folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> AccountStore:
        return SqliteStore(self._path)

    def raw_text(self) -> str:
        with closing(sqlite3.connect(self._path)) as database:
            return "\n".join(database.iterdump())


@contextmanager
def sqlite_harness(folder: Path) -> Iterator[Harness]:
    yield SqliteHarness(folder / "killrvideo.db")


class DataApiHarness:
    """A keyspace of a Data API: a real one or the fake."""

    def __init__(self, keyspace: "Keyspace") -> None:
        self._keyspace = keyspace

    def open(self) -> AccountStore:
        from killrvideo_grpc.stores.astra.store import AstraStore
        from killrvideo_grpc.stores.data_api.client import DataApi

        # Tests must not run out of time on a busy machine.
        return AstraStore(DataApi(replace(self._keyspace, max_wait=30.0)))

    def raw_text(self) -> str:
        from astrapy.authentication import UsernamePasswordTokenProvider

        keyspace = self._keyspace
        token = UsernamePasswordTokenProvider(keyspace.username or "", keyspace.password or "").get_token()
        url = f"{keyspace.endpoint}/v1/{keyspace.name}"
        with httpx.Client(headers={"Token": token or ""}, timeout=30, verify=False) as http:
            names = _ask(http, url, {"findCollections": {}})["status"]["collections"]
            names += _ask(http, url, {"listTables": {}})["status"]["tables"]
            contents = {name: list(_everything(http, f"{url}/{name}")) for name in names}
        return json.dumps(contents, ensure_ascii=False)


def _everything(http: httpx.Client, place: str) -> Iterator[Any]:
    options: dict[str, str] = {}
    while True:
        page = _ask(http, place, {"find": {"options": options}})["data"]
        yield from page["documents"]
        if not page.get("nextPageState"):
            return
        options = {"pageState": page["nextPageState"]}


def _ask(http: httpx.Client, place: str, command: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = http.post(place, json=command).raise_for_status().json()
    assert not answer.get("errors"), answer["errors"]
    return answer


# These imports are local, so that the SQLite tests run without astrapy.
@contextmanager
def fake_harness(folder: Path) -> Iterator[Harness]:
    from tests.support.keyspaces import prepared_fake

    with prepared_fake() as (_, keyspace):
        yield DataApiHarness(keyspace)


@contextmanager
def real_harness(folder: Path) -> Iterator[Harness]:
    from tests.support.keyspaces import real_keyspace

    with real_keyspace() as keyspace:
        yield DataApiHarness(keyspace)


# Add a new store here to run the suite on it.
STORES: dict[str, Callable[[Path], AbstractContextManager[Harness]]] = {
    "memory": memory_harness,
    "sqlite": sqlite_harness,
    "fake": fake_harness,
}
if "TEST_DATA_API_URL" in os.environ:
    STORES["data-api"] = real_harness
