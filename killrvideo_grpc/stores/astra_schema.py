"""What the keyspace must hold, and how that comes to be. It only ever adds: nothing is dropped or rewritten."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from killrvideo_grpc.domain.errors import UnusableStore
from killrvideo_grpc.stores.data_api import CREDENTIALS, USERS, CredentialsRefused, DataApi, RequestRefused, translated

Column = dict[str, Any]

SET_OF_TEXT: Column = {"type": "set", "valueType": {"type": "text"}}
# KillrVideo's own columns; roles and search_terms are what this service adds to them.
COLUMNS: dict[str, Column] = {
    "userid": {"type": "uuid"},
    "email": {"type": "text"},
    "firstname": {"type": "text"},
    "lastname": {"type": "text"},
    "account_status": {"type": "text"},
    "created_date": {"type": "timestamp"},
    "last_login_date": {"type": "timestamp"},
    "roles": SET_OF_TEXT,
    "search_terms": SET_OF_TEXT,
}
KEY = {"partitionBy": ["userid"], "partitionSort": {}}
INDEXED, INDEX = "search_terms", "users_search_terms"
# A collection without indexes is quick to make and to write, and this one is only ever read by _id.
INDEXING = {"deny": ["*"]}


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the keyspace lacks, and how to make it; None where it is there and otherwise than it must be."""

    text: str
    make: Callable[[], object] | None


def check(api: DataApi) -> list[Difference]:
    """Compares the keyspace with what it must hold. No differences: the service can run on it.

    Raises StoreUnavailable when there is no answer, and UnusableStore when there is no such keyspace or no way in.
    """
    with _clear_refusals("show its schema", api.database.keyspace):
        return [*_table_differences(api), *_collection_differences(api)]


def create(api: DataApi, *, keyspace: bool) -> Iterator[str]:
    """Makes what is missing, and the keyspace too if asked; tells each thing once it is done. Safe to repeat.

    Raises what `check` does, and UnusableStore when something is there and is otherwise than it must be.
    """
    if keyspace:
        with _clear_refusals("make a keyspace", api.database.keyspace):
            api.create_keyspace()
        yield f"keyspace {api.database.keyspace} is there"
    made: set[str] = set()
    # Looked at anew after each step, because what a table lacks shows only once there is a table.
    while found := check(api):
        difference = next((lack for lack in found if lack.make and lack.text not in made), found[0])
        if difference.make is None or difference.text in made:
            raise UnusableStore(difference.text)
        made.add(difference.text)
        step = f"make the {difference.text}"
        with _clear_refusals(step, api.database.keyspace), translated(step):
            difference.make()
        yield f"made {difference.text}"


@contextmanager
def _clear_refusals(step: str, keyspace: str | None) -> Iterator[None]:
    try:
        yield
    except CredentialsRefused:
        raise UnusableStore("the Data API does not let us in; see the ASTRA_DB_ settings for token or user") from None
    except RequestRefused as error:
        text = f"the Data API refuses to {step}: {error.code}"
        if "KEYSPACE" in str(error.code):
            text = f"there is no keyspace {keyspace}; make it with: killrvideo-grpc schema create --keyspace"
        raise UnusableStore(text) from None


def _table_differences(api: DataApi) -> Iterator[Difference]:
    database, table = api.database, api.users
    found = api.ask("list tables", lambda ms: database.list_tables(timeout_ms=ms))
    tables = {table.name: table.definition.as_dict() for table in found}
    if USERS not in tables:
        definition = {"columns": COLUMNS, "primaryKey": KEY}
        yield Difference(
            f"table {USERS}", lambda: database.create_table(USERS, definition=definition, if_not_exists=True)
        )
        return
    columns = tables[USERS]["columns"]
    missing = {name: column for name, column in COLUMNS.items() if name not in columns}
    if missing:
        yield Difference(
            f"columns {', '.join(missing)} of table {USERS}", lambda: table.alter({"add": {"columns": missing}})
        )
    for name in COLUMNS.keys() - missing:
        if _type(columns[name]) != _type(COLUMNS[name]):
            there, due = _type(columns[name]), _type(COLUMNS[name])
            yield Difference(f"column {name} of table {USERS} is {there} and must be {due}", None)
    if tables[USERS]["primaryKey"]["partitionBy"] != KEY["partitionBy"]:
        yield Difference(f"the primary key of table {USERS} must be userid", None)
    if INDEXED in missing:
        return
    indexes = api.ask("list indexes", lambda ms: table.list_indexes(timeout_ms=ms))
    if not any(_is_on(index, INDEXED) for index in indexes):
        yield Difference(
            f"index {INDEX} on {USERS}.{INDEXED}", lambda: table.create_index(INDEX, INDEXED, if_not_exists=True)
        )


def _type(column: Column) -> str:
    # The type of a set's members is told as "text" or as {"type": "text"}.
    members = column.get("valueType")
    members = members["type"] if isinstance(members, dict) else members
    return f"{column['type']}<{members}>" if members else str(column["type"])


def _is_on(index: Any, column: str) -> bool:
    # {"column": "search_terms"}, or {"column": {"search_terms": "$values"}}
    indexed = index.definition.as_dict()["column"]
    return bool(indexed == column or (isinstance(indexed, dict) and column in indexed))


def _collection_differences(api: DataApi) -> Iterator[Difference]:
    database = api.database
    listed = api.ask("list collections", lambda ms: database.list_collections(timeout_ms=ms))
    collections = {found.name: found.definition.as_dict() for found in listed}
    if CREDENTIALS not in collections:
        definition = {"indexing": INDEXING}
        yield Difference(
            f"collection {CREDENTIALS}", lambda: database.create_collection(CREDENTIALS, definition=definition)
        )
    elif collections[CREDENTIALS].get("indexing") != INDEXING:
        yield Difference(f"collection {CREDENTIALS} must have the indexing {INDEXING}", None)
