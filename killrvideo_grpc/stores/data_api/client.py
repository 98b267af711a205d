"""Requests to the Data API, each with a time limit.

Values are read as standard Python types: UUID, set, timezone-aware datetime, str.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, TypeVar

from astrapy import AsyncDatabase, DataAPIClient
from astrapy.api_options import APIOptions, SerdesOptions, TimeoutOptions
from astrapy.authentication import StaticTokenProvider, TokenProvider, UsernamePasswordTokenProvider

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.stores.data_api.errors import AnswerLost, Conflict, CredentialsRefused, raise_time_out, translated
from killrvideo_grpc.stores.data_api.http_pool import HttpPool

T = TypeVar("T")
TableRow = dict[str, Any]
Document = dict[str, Any]
Update = dict[str, dict[str, Any]]

ACCOUNTS = "accounts"
USERS = "users"
ACCOUNT_EVENTS = "account_events"
EVENTS_BY_DAY = "events_by_day"

# Concurrent requests. httpcore scans its connections before each one, at 40 µs per connection.
MAX_REQUESTS = 16
CONFLICT_PAUSE_SECONDS = 0.03
# Hashes are read only to check a password.
_WITHOUT_HASH = {"password_hash": False}


@dataclass(frozen=True)
class Keyspace:
    """A keyspace of a Data API. The credentials are a token, or a user name and password."""

    endpoint: str
    name: str
    environment: str
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    max_wait: float = 5.0  # seconds that a request may take

    def open(self) -> AsyncDatabase:
        """Return astrapy's database object. Send nothing."""
        provider: TokenProvider = UsernamePasswordTokenProvider(self.username or "", self.password or "")
        if self.token is not None:
            provider = StaticTokenProvider(self.token)
        options = APIOptions(
            serdes_options=SerdesOptions(custom_datatypes_in_reading=False, datetime_tzinfo=UTC),
            # astrapy's limits apply to each socket read. `within` limits the whole request instead.
            timeout_options=TimeoutOptions(
                request_timeout_ms=0,
                general_method_timeout_ms=0,
                collection_admin_timeout_ms=0,
                table_admin_timeout_ms=0,
                database_admin_timeout_ms=0,
                keyspace_admin_timeout_ms=0,
            ),
        )
        client = DataAPIClient(environment=self.environment, api_options=options)
        return client.get_async_database(self.endpoint, token=provider, keyspace=self.name)


class DataApi:
    """The requests that the store makes, over one HTTP client.

    Each ends within `max_wait` seconds and can raise StoreUnavailable or UnusableStore. In that time, a request that
    fails is sent once more where that is safe, and one that ends in a Conflict until it succeeds.
    """

    def __init__(self, keyspace: Keyspace, instrumentation: Instrumentation = NOOP) -> None:
        self.instrumentation = instrumentation
        self.database = keyspace.open()
        self.max_wait = keyspace.max_wait
        self._is_down = False
        # Instead of httpx's limit, whose permits a cancelled request can leak.
        self._permits = asyncio.Semaphore(MAX_REQUESTS)
        self._ping_permit = asyncio.Semaphore(1)  # separate, so that a busy store doesn't seem to be down
        self._http = HttpPool(instrumentation.trace_headers)
        self._accounts = self.database.get_collection(ACCOUNTS)
        self.tables = {name: self.database.get_table(name) for name in (USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY)}
        for holder in (self.database, self._accounts, *self.tables.values()):
            self.share_client(holder)
        # astrapy makes a client for each schema command and never closes it. Make it use the database's.
        vars(self.database)["_get_driver_commander"] = lambda keyspace: self.database._api_commander  # noqa: SLF001

    async def find_document(
        self, key: str, *, with_hash: bool = False, seconds: float | None = None, fields: Collection[str] = ()
    ) -> Document | None:
        """Return the document with this `_id`, or only its `fields`; None if there is none."""
        projection = None if with_hash else _projection(fields)
        return await self._call(
            "find document", lambda: self._accounts.find_one({"_id": key}, projection=projection), seconds=seconds
        )

    async def find_documents(
        self, keys: Collection[str], seconds: float | None = None, fields: Collection[str] = ()
    ) -> dict[str, Document]:
        """Return those of up to 100 documents that exist, by `_id`, without hashes, or only their `fields`."""
        if len(keys) == 1:  # cheaper, and the usual case under low load
            (key,) = keys
            document = await self.find_document(key, seconds=seconds, fields=fields)
            return {key: document} if document else {}
        condition = {"_id": {"$in": list(keys)}}
        documents = await self._call(
            "find documents",
            lambda: self._accounts.find(condition, projection=_projection(fields)).to_list(),
            seconds=seconds,
        )
        return {document["_id"]: document for document in documents}

    async def document_pages(
        self, condition: Mapping[str, Any], *, with_hashes: bool = False
    ) -> AsyncIterator[list[Document]]:
        """Yield all documents that match the condition, in pages of up to 50."""
        options: dict[str, Any] = {"projection": None if with_hashes else _WITHOUT_HASH}
        while True:
            page = await self._call(
                "find page", lambda: self._accounts.find(dict(condition), **options).fetch_next_page()
            )
            yield page.results
            if page.next_page_state is None:
                return
            options["initial_page_state"] = page.next_page_state

    async def insert_document(self, document: Document) -> None:
        """Insert a document. Raise AlreadyExists, also if the answer to our own first try was lost."""
        await self._call("insert document", lambda: self._accounts.insert_one(document))

    async def upsert_document(self, key: str, update: Update, fields: Collection[str]) -> Document | None:
        """Update a document by its `_id`, creating it if necessary. Return these `fields` of it afterwards.

        After a lost answer, the update may be applied twice.
        """
        return await self._call(
            "upsert document",
            lambda: self._accounts.find_one_and_update(
                {"_id": key}, update, projection=_projection(fields), return_document="after", upsert=True
            ),
        )

    async def compare_and_set(self, revision: str, update: Update) -> bool:
        """Update the document that has this revision. Return False if there is none.

        The filter has one condition, the most that Apache Cassandra takes. After Conflict or AnswerLost, the outcome is
        unknown.
        """
        try:
            result = await self._call(
                "compare and set", lambda: self._accounts.update_one({"revision": revision}, update), tries=1
            )
        except (Conflict, CredentialsRefused):
            raise
        except StoreUnavailable as error:
            raise AnswerLost(str(error)) from None
        matched, modified = result.update_info["n"], result.update_info["nModified"]
        if matched != modified:
            raise AnswerLost("matched but not modified")
        return bool(matched)

    async def delete_document(self, revision: str) -> None:
        """Delete the document that has this revision, if there is one."""
        await self._call("delete document", lambda: self._accounts.delete_one({"revision": revision}))

    async def insert_row(self, table: str, row: TableRow) -> None:
        """Write these columns of a row, creating it if necessary. Leave its other columns as they are."""
        await self._call("insert row", lambda: self.tables[table].insert_one(row))

    async def delete_row(self, table: str, key: TableRow) -> None:
        """Delete a row if it exists."""
        await self._call("delete row", lambda: self.tables[table].delete_one(key))

    async def row_page(
        self, table: str, condition: TableRow, state: str | None = None, *, columns: Collection[str] | None = None
    ) -> tuple[list[TableRow], str | None]:
        """Return up to 50 matching rows from `state` on, and the state of the next page; None on the last one."""
        projection = dict.fromkeys(columns, True) if columns else None
        options: dict[str, Any] = {"initial_page_state": state} if state else {}
        page = await self._call(
            "find page",
            lambda: self.tables[table].find(condition, projection=projection, **options).fetch_next_page(),
        )
        return page.results, page.next_page_state

    async def send(self, name: str, request: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Send the given request once. It may take `seconds`, by default `max_wait`."""
        async with self.within(name, seconds):
            return await self._send(name, request)

    async def ping(self) -> None:
        """Read a document that doesn't exist. Until a ping succeeds again, other requests then fail at once.

        Raise only StoreUnavailable.
        """
        answered = False
        try:
            async with self.within("ping"), self._ping_permit:
                await self._request("ping", lambda: self._accounts.find_one({"_id": "-"}))
            answered = True
        except Exception as error:
            raise StoreUnavailable from error
        finally:
            self._is_down = not answered

    @asynccontextmanager
    async def within(self, name: str, seconds: float | None = None) -> AsyncIterator[None]:
        """Limit the whole body to `seconds`, by default `max_wait`. Raise StoreUnavailable if it takes longer."""
        try:
            async with asyncio.timeout(self.max_wait if seconds is None else seconds):
                yield
        except TimeoutError:
            self.instrumentation.store_timeout(name)
            raise_time_out(name)

    def fail_if_down(self) -> None:
        """Raise StoreUnavailable if the last ping failed, instead of waiting for a likely time-out."""
        if self._is_down:
            raise StoreUnavailable("down")

    async def create_keyspace(self, seconds: float) -> None:
        """Create the keyspace if it doesn't exist."""
        admin = self.database.get_database_admin()
        self.share_client(admin)
        keyspace = self.database.keyspace or ""
        await self.send("create keyspace", lambda: admin.async_create_keyspace(keyspace), seconds)

    async def close(self) -> None:
        """Close all connections. Requests under way fail."""
        await self._http.close()

    def share_client(self, holder: Any) -> None:
        """Make an object of astrapy use the one HTTP client."""
        # astrapy makes an HTTP client for each object and takes none as an argument.
        commander = getattr(holder, "_api_commander", None)
        if commander is not None:
            commander.async_client = self._http.client

    async def _call(
        self, name: str, request: Callable[[], Awaitable[T]], tries: int = 2, seconds: float | None = None
    ) -> T:
        """Send a request up to `tries` times. With more than one try, repeat it after any number of conflicts."""
        conflicts = 0
        async with self.within(name, seconds):
            while True:
                try:
                    return await self._send(name, request)
                except Conflict:
                    if tries == 1:
                        raise
                    conflicts += 1
                    pause = CONFLICT_PAUSE_SECONDS * min(conflicts, 10)
                    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 # needs no cryptographic randomness
                except StoreUnavailable:
                    tries -= 1
                    if tries == 0:
                        raise

    async def _send(self, name: str, request: Callable[[], Awaitable[T]]) -> T:
        self.fail_if_down()
        async with self._permits:
            self.fail_if_down()  # it may have gone down while this request waited
            return await self._request(name, request)

    async def _request(self, name: str, request: Callable[[], Awaitable[T]]) -> T:
        try:
            with self.instrumentation.store_request(name), translated(name):
                return await request()
        except asyncio.CancelledError:
            self._http.discard_unfinished()
            raise


def _projection(fields: Collection[str]) -> dict[str, bool]:
    return dict.fromkeys(fields, True) if fields else _WITHOUT_HASH
