"""The schema that the keyspace must have, and its creation. Nothing is ever dropped or rewritten."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from killrvideo_grpc.domain.errors import UnusableStore
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS, DataApi
from killrvideo_grpc.stores.data_api.errors import CredentialsRefused, RequestRefused

Column = dict[str, Any]

# A real Data API takes 12 s to create a collection with an index.
CREATE_SECONDS = 120.0

# Documents are read by `_id`, written by `revision`, and found by `pending` when they are unfinished.
INDEXING = {"allow": ["revision", "pending"]}
# By default, a Data API also makes a text index, which Apache Cassandra 5.0 doesn't have.
ACCOUNTS_DEFINITION: dict[str, Any] = {"indexing": INDEXING, "lexical": {"enabled": False}}
# KillrVideo's own columns, and search_terms, which this service adds for its search.
USER_COLUMNS: dict[str, Column] = {
    "userid": {"type": "uuid"},
    "email": {"type": "text"},
    "firstname": {"type": "text"},
    "lastname": {"type": "text"},
    "account_status": {"type": "text"},
    "created_date": {"type": "timestamp"},
    "last_login_date": {"type": "timestamp"},
    "search_terms": {"type": "set", "valueType": {"type": "text"}},
}
INDEXED, INDEX = "search_terms", "users_search_terms"
EVENT_COLUMNS: dict[str, Column] = {
    "account": {"type": "uuid"},
    "at": {"type": "timestamp"},
    "event_id": {"type": "uuid"},
    **{name: {"type": "text"} for name in ("action", "actor", "reason", "request_id", "before", "after")},
}
NEWEST_FIRST = {"at": -1, "event_id": 1}


@dataclass(frozen=True, slots=True)
class Table:
    """A table that the keyspace must have. It may have additional columns."""

    name: str
    columns: dict[str, Column]
    partition: list[str]
    order: dict[str, int]

    @property
    def definition(self) -> dict[str, Any]:
        """The definition that `create_table` takes."""
        return {"columns": self.columns, "primaryKey": {"partitionBy": self.partition, "partitionSort": self.order}}


TABLES = (
    Table(USERS, USER_COLUMNS, ["userid"], {}),
    Table(ACCOUNT_EVENTS, EVENT_COLUMNS, ["account"], NEWEST_FIRST),
    Table(EVENTS_BY_DAY, {"day": {"type": "text"}, **EVENT_COLUMNS}, ["day"], NEWEST_FIRST),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A deviation from the schema. `create` adds what is missing; it is None if something is wrong."""

    text: str
    create: Callable[[], Awaitable[object]] | None


def advice(differences: Sequence[Difference]) -> str:
    """Return what an operator can do about the differences."""
    if all(difference.create for difference in differences):
        return "Create what is missing with: killrvideo-grpc schema create"
    return "No command changes what exists: set ASTRA_DB_KEYSPACE to another keyspace, or drop what is wrong"


async def check(api: DataApi) -> list[Difference]:
    """Compare the keyspace with the schema.

    Raise StoreUnavailable if there is no answer, and UnusableStore if the keyspace doesn't exist or access is denied.
    """
    with _explained_refusals("show its schema", api.database.keyspace):
        return [
            *[difference async for difference in _table_differences(api)],
            *[difference async for difference in _collection_differences(api)],
        ]


async def create(api: DataApi, *, keyspace: bool) -> AsyncIterator[str]:
    """Create what is missing, and first the keyspace if `keyspace` is set.

    Yield a line of text after each step. Raise the errors of `check`, and UnusableStore if something exists but differs
    from the schema.
    """
    if keyspace:
        with _explained_refusals("create a keyspace", api.database.keyspace):
            await api.create_keyspace(CREATE_SECONDS)
        yield f"keyspace {api.database.keyspace} exists"
    created: set[str] = set()
    # Check again after each step, because a missing index only shows once its table exists.
    while found := await check(api):
        difference = next((each for each in found if each.create and each.text not in created), found[0])
        if difference.create is None or difference.text in created:
            raise UnusableStore(difference.text)
        created.add(difference.text)
        step = f"create the {difference.text}"
        with _explained_refusals(step, api.database.keyspace):
            await api.send(step, difference.create, CREATE_SECONDS)
        yield f"created {difference.text}"


@contextmanager
def _explained_refusals(step: str, keyspace: str | None) -> Iterator[None]:
    try:
        yield
    except CredentialsRefused as error:
        raise UnusableStore(str(error)) from None
    except RequestRefused as error:
        text = f"the Data API refuses to {step}: {error.code}"
        if "KEYSPACE" in str(error.code):
            text = f"there is no keyspace {keyspace}; create it with: killrvideo-grpc schema create --keyspace"
        elif error.code == "TOO_MANY_COLLECTIONS":
            text = (
                f"the database has no room for the collection {ACCOUNTS}: a Data API allows five collections in all "
                "keyspaces of a database together, unless it is configured otherwise; drop one that nothing uses"
            )
        raise UnusableStore(text) from None


async def _table_differences(api: DataApi) -> AsyncIterator[Difference]:
    found = await api.send("list tables", api.database.list_tables)
    existing = {table.name: table.definition.as_dict() for table in found}
    for table in TABLES:
        if table.name not in existing:
            yield Difference(f"table {table.name}", _creation(api, table))
            continue
        columns = existing[table.name]["columns"]
        missing = {name: column for name, column in table.columns.items() if name not in columns}
        if missing:
            text = f"columns {', '.join(missing)} of table {table.name}"
            yield Difference(text, _addition(api, table, missing))
        for name in table.columns.keys() - missing:
            actual, expected = _type(columns[name]), _type(table.columns[name])
            if actual != expected:
                yield Difference(f"column {name} of table {table.name} is {actual} and must be {expected}", None)
        key = existing[table.name]["primaryKey"]
        if (key["partitionBy"], key.get("partitionSort") or {}) != (table.partition, table.order):
            text = ", ".join([*table.partition, *(f"{name} {order:+}" for name, order in table.order.items())])
            yield Difference(f"the primary key of table {table.name} must be {text}", None)
        if table.name == USERS and INDEXED not in missing:
            async for difference in _index_differences(api):
                yield difference


async def _index_differences(api: DataApi) -> AsyncIterator[Difference]:
    users = api.tables[USERS]
    indexes = await api.send("list indexes", users.list_indexes)
    if not any(_is_on(index, INDEXED) for index in indexes):
        text = f"index {INDEX} on {USERS}.{INDEXED}"
        yield Difference(text, lambda: users.create_index(INDEX, INDEXED, if_not_exists=True))


async def _collection_differences(api: DataApi) -> AsyncIterator[Difference]:
    listed = await api.send("list collections", api.database.list_collections)
    collections = {found.name: found.definition.as_dict() for found in listed}
    if ACCOUNTS not in collections:
        yield Difference(
            f"collection {ACCOUNTS}", lambda: api.database.create_collection(ACCOUNTS, definition=ACCOUNTS_DEFINITION)
        )
    elif sorted((collections[ACCOUNTS].get("indexing") or {}).get("allow", ())) != sorted(INDEXING["allow"]):
        yield Difference(f"collection {ACCOUNTS} must have the indexing {INDEXING}", None)


def _creation(api: DataApi, table: Table) -> Callable[[], Awaitable[object]]:
    return lambda: api.database.create_table(table.name, definition=table.definition, if_not_exists=True)


def _addition(api: DataApi, table: Table, columns: dict[str, Column]) -> Callable[[], Awaitable[object]]:
    return lambda: api.tables[table.name].alter({"add": {"columns": columns}})


def _type(column: Column) -> str:
    # The Data API describes the type of a set's members as "text" or as {"type": "text"}.
    members = column.get("valueType")
    members = members["type"] if isinstance(members, dict) else members
    return f"{column['type']}<{members}>" if members else str(column["type"])


def _is_on(index: Any, column: str) -> bool:
    # {"column": "search_terms"}, or {"column": {"search_terms": "$values"}}
    indexed = index.definition.as_dict()["column"]
    return bool(indexed == column or (isinstance(indexed, dict) and column in indexed))
