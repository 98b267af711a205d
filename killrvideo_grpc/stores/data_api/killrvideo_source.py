"""The accounts of an existing KillrVideo database on a Data API, in its tables or its collections."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from astrapy.api_options import APIOptions, SerdesOptions
from astrapy.data_types import DataAPITimestamp

from killrvideo_grpc.domain.errors import SetupError, StoreUnavailable
from killrvideo_grpc.migration.source import CREDENTIAL_COLUMNS, USER_COLUMNS, Source, SourceCredential, SourceUser
from killrvideo_grpc.migration.values import read_id
from killrvideo_grpc.stores.data_api.client import DataApi
from killrvideo_grpc.stores.data_api.errors import RequestRefused

USERS, CREDENTIALS = "users", "user_credentials"
DOCUMENT_FIELDS = (
    *("userid", "firstname", "lastname", "email", "hashed_password", "roles", "account_status"),
    *("created_date", "last_login_date"),
)
TRIES = 3  # for a page

# Python's dates end in the year 9999, and an unusable date must not stop the import.
_ANY_DATE = APIOptions(serdes_options=SerdesOptions(custom_datatypes_in_reading=True))

Values = dict[str, Any]


class KillrVideoSource:
    """Reads the keyspace that the client is for."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._keyspace = api.database.keyspace

    async def read_tables(self, advance: Callable[[int], object]) -> Source:
        """Read `users` and `user_credentials`. Raise SetupError."""
        found = await self._list("list tables", self._api.database.list_tables)
        tables = {table.name: table.definition.as_dict()["columns"] for table in found}
        for table, columns in ((USERS, USER_COLUMNS), (CREDENTIALS, CREDENTIAL_COLUMNS)):
            if table not in tables:
                raise SetupError(f"Keyspace {self._keyspace} has no table {table}.{await self._hint('collections')}")
            if missing := [column for column in columns if column not in tables[table]]:
                raise SetupError(f"Table {table} of keyspace {self._keyspace} has no column {', '.join(missing)}.")
        users = [_user(row, "row") async for row in self._rows(USERS, USER_COLUMNS, advance)]
        rows = self._rows(CREDENTIALS, CREDENTIAL_COLUMNS, advance)
        return Source(users, [_credential(row) async for row in rows])

    async def read_collections(self, advance: Callable[[int], object]) -> Source:
        """Read the collection `users`. Raise SetupError."""
        found = await self._list("list collections", self._api.database.list_collections)
        if USERS not in [collection.name for collection in found]:
            raise SetupError(f"Keyspace {self._keyspace} has no collection {USERS}.{await self._hint('tables')}")
        collection = self._api.database.get_collection(USERS, spawn_api_options=_ANY_DATE)
        self._api.share_client(collection)
        projection = dict.fromkeys(DOCUMENT_FIELDS, True)

        def page(options: Values) -> Any:
            return collection.find({}, projection=projection, **options).fetch_next_page()

        documents = [each async for each in self._pages(page, advance)]
        users = [_user(document, "document") for document in documents]
        credentials = [
            SourceCredential(user.where, user.email, document.get("hashed_password"), document.get("userid"))
            for user, document in zip(users, documents, strict=True)
            if user.email
        ]
        return Source(users, credentials, has_roles=True)

    async def purge(self, emails: Sequence[str], advance: Callable[[int], object]) -> None:
        """Delete these rows of `user_credentials`. Raise StoreUnavailable, after which a second run goes on."""
        table = self._api.database.get_table(CREDENTIALS)
        self._api.share_client(table)
        for email in emails:
            await self._ask("delete row", partial(table.delete_one, {"email": email}))
            advance(1)

    async def _rows(
        self, name: str, columns: Collection[str], advance: Callable[[int], object]
    ) -> AsyncIterator[Values]:
        table = self._api.database.get_table(name, spawn_api_options=_ANY_DATE)
        self._api.share_client(table)
        projection = dict.fromkeys(columns, True)

        def page(options: Values) -> Any:
            return table.find({}, projection=projection, **options).fetch_next_page()

        async for row in self._pages(page, advance):
            yield row

    async def _pages(self, page: Callable[[Values], Any], advance: Callable[[int], object]) -> AsyncIterator[Values]:
        options: Values = {}
        while True:
            found = await self._ask("find page", partial(page, options))
            advance(len(found.results))
            for values in found.results:
                yield {name: _plain(value) for name, value in values.items()}
            if found.next_page_state is None:
                return
            options = {"initial_page_state": found.next_page_state}

    async def _ask(self, name: str, request: Callable[[], Any]) -> Any:
        for _ in range(TRIES - 1):
            with suppress(StoreUnavailable):
                return await self._api.send(name, request)
        return await self._api.send(name, request)

    async def _list(self, name: str, request: Callable[[], Any]) -> Any:
        try:
            return await self._ask(name, request)
        except RequestRefused as error:
            if "KEYSPACE" not in str(error.code):
                raise
            raise SetupError(f"There is no keyspace {self._keyspace}: name the source's with --keyspace.") from None

    async def _hint(self, kind: str) -> str:
        """Return what to try if the accounts are there in the other form."""
        request = self._api.database.list_tables if kind == "tables" else self._api.database.list_collections
        names = [each.name for each in await self._list(f"list {kind}", request)]
        is_other = USERS in names
        return f" It has a {kind[:-1]}: use --from-killrvideo {kind}." if is_other else " Name another with --keyspace."


def _user(values: Values, kind: str) -> SourceUser:
    return SourceUser(
        _place(USERS, values, kind),
        values.get("userid"),
        values.get("email"),
        values.get("firstname"),
        values.get("lastname"),
        values.get("account_status"),
        values.get("created_date"),
        values.get("last_login_date"),
        values.get("roles"),
    )


def _credential(row: Values) -> SourceCredential:
    where = _place(CREDENTIALS, row, "row")
    return SourceCredential(where, row.get("email"), row.get("password"), row.get("userid"), row.get("account_locked"))


def _place(name: str, values: Values, kind: str) -> str:
    """Return where the values stand, without others than the user id."""
    user_id = read_id(values.get("userid"))
    return f"{name} {user_id}" if user_id else f"a {kind} of {name} without a user id"


def _plain(value: Any) -> Any:
    """Return milliseconds for a date."""
    return value.timestamp_ms if isinstance(value, DataAPITimestamp) else value
