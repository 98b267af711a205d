"""Requests to the Data API, each within the time that it has: the only code that knows astrapy.

What is read comes back as Python's own types: UUID, set, aware datetime, str.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import httpx
import structlog
from astrapy import DataAPIClient, Database
from astrapy.api_options import APIOptions, SerdesOptions
from astrapy.authentication import StaticTokenProvider, TokenProvider, UsernamePasswordTokenProvider
from astrapy.exceptions import DataAPIHttpException, DataAPIResponseException, DataAPITimeoutException

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded, StoreUnavailable, UnusableStore

T = TypeVar("T")
Row = dict[str, Any]
Document = dict[str, Any]

USERS = "users"
CREDENTIALS = "login_credentials"

MAX_REQUESTS = 64
# Servers and balancers keep an idle connection for about a minute. httpx drops it after 5 s, at a handshake each time.
KEEP_ALIVE_SECONDS = 50.0
CONFLICT_PAUSE_SECONDS = 0.02

_give_up_at: ContextVar[float] = ContextVar("give_up_at", default=math.inf)

_log = structlog.get_logger("killrvideo_grpc.stores.astra")


class AlreadyExists(Exception):
    """A document with this `_id` is there."""


class RequestRefused(UnusableStore):
    """The Data API calls a request of ours wrong: a bug here, or a schema that changed under us. Carries its `code`."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"the Data API refuses a request ({code}); see what differs: killrvideo-grpc schema check")
        self.code = code


class CredentialsRefused(StoreUnavailable):
    """The Data API does not let us in with this token, or this user and password."""


class _Conflict(StoreUnavailable):
    """Others changed the document at the same moment, and nothing was done."""


@dataclass(frozen=True)
class Connection:
    """Where a Data API is and how to get in: a token, or a user and a password."""

    endpoint: str
    keyspace: str
    environment: str
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    max_wait: float = 5.0  # seconds that a call may take when its RPC has more

    def open(self) -> Database:
        """Returns astrapy's database. Nothing is sent yet."""
        provider: TokenProvider = UsernamePasswordTokenProvider(self.username or "", self.password or "")
        if self.token is not None:
            provider = StaticTokenProvider(self.token)
        plain_types = SerdesOptions(custom_datatypes_in_reading=False, datetime_tzinfo=UTC)
        client = DataAPIClient(environment=self.environment, api_options=APIOptions(serdes_options=plain_types))
        return client.get_database(self.endpoint, token=provider, keyspace=self.keyspace)


class DataApi:
    """The requests that the store makes, over one HTTP client for all threads of the process.

    Each runs on a thread of its own while its caller waits, so that a server that hangs, or answers byte by byte, keeps
    a thread of ours and never a caller beyond its time. All can raise StoreUnavailable, DeadlineExceeded, and
    RequestRefused for what is a bug.
    """

    def __init__(self, connection: Connection) -> None:
        self.database = connection.open()
        self.max_wait = connection.max_wait
        self._threads = ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="data-api")
        self._is_away = threading.Event()
        self.users = self.database.get_table(USERS)
        self._credentials = self.database.get_collection(CREDENTIALS)
        limits = httpx.Limits(max_connections=MAX_REQUESTS, keepalive_expiry=KEEP_ALIVE_SECONDS)
        self._http = httpx.Client(limits=limits)
        for holder in (self.database, self.users, self._credentials):
            self._share_client(holder)

    def find_rows(self, user_ids: Iterable[UUID], seconds: float) -> dict[UUID, Row]:
        """Reads up to 50 accounts at once (a page), once, in so many seconds. Leaves out those that are missing."""
        keys = list(user_ids)

        def read(milliseconds: int) -> dict[UUID, Row]:
            if len(keys) == 1:
                row = self.users.find_one({"userid": keys[0]}, timeout_ms=milliseconds)
                return {keys[0]: row} if row else {}
            found = self.users.find({"userid": {"$in": keys}}, timeout_ms=milliseconds).to_list()
            return {row["userid"]: row for row in found}

        return self._wait_for("find rows", read, seconds)

    def insert_row(self, row: Row) -> None:
        """Writes the columns of the row, whether it exists or not; keeps its other columns."""
        self._call("insert row", lambda ms: self.users.insert_one(row, timeout_ms=ms))

    def update_row(self, user_id: UUID, update: dict[str, Any]) -> None:
        """Updates a row; one that is missing comes into being with the columns that are set."""
        self._call("update row", lambda ms: self.users.update_one({"userid": user_id}, update, timeout_ms=ms))

    def find_document(self, key: str) -> Document | None:
        """Reads the credentials document with this `_id`."""
        return self._call("find document", lambda ms: self._credentials.find_one({"_id": key}, timeout_ms=ms))

    def insert_document(self, document: Document) -> None:
        """Inserts a credentials document, once: whether a lost answer was a yes, the caller finds out.

        Raises AlreadyExists.
        """
        self._call("insert document", lambda ms: self._credentials.insert_one(document, timeout_ms=ms), tries=1)

    def update_document(self, key: str, update: dict[str, Any]) -> None:
        """Updates the credentials document with this `_id`, if there is one."""
        self._call("update document", lambda ms: self._credentials.update_one({"_id": key}, update, timeout_ms=ms))

    def documents(self) -> Iterator[Document]:
        """Reads all credentials documents, page by page."""
        with translated("read documents"):
            yield from self._credentials.find({}, request_timeout_ms=_milliseconds(self.max_wait))

    def ask(self, name: str, request: Callable[[int], T]) -> T:
        """Sends a request of another's making, once; it is called with the milliseconds that it may take."""
        return self._wait_for(name, request, self.max_wait)

    def ping(self) -> None:
        """Asks for a document that is not there. Until the next ping is answered, a failed one fails all other calls.

        Raises StoreUnavailable, and RequestRefused as that.
        """
        try:
            self.ask("ping", lambda ms: self._credentials.find_one({"_id": "-"}, timeout_ms=ms))
        except Exception as error:
            self._is_away.set()
            raise StoreUnavailable from error
        self._is_away.clear()

    @contextmanager
    def one_wait(self) -> Iterator[None]:
        """Gives the requests made inside `max_wait` seconds together; each alone may take that long else."""
        token = _give_up_at.set(time.monotonic() + self.max_wait)
        try:
            yield
        finally:
            _give_up_at.reset(token)

    def fail_if_away(self) -> None:
        """Raises StoreUnavailable when the last ping failed: to wait out each call would serve nobody."""
        if self._is_away.is_set():
            raise StoreUnavailable

    def create_keyspace(self) -> None:
        """Makes the keyspace, if it is not there."""
        with translated("make a keyspace"):
            admin = self.database.get_database_admin()
            self._share_client(admin)
            admin.create_keyspace(self.database.keyspace or "")

    def close(self) -> None:
        """Closes all connections; requests under way fail."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _share_client(self, holder: Any) -> None:
        # astrapy makes an HTTP client for each object, and takes none.
        commander = getattr(holder, "_api_commander", None)
        if commander is not None:
            commander.client = self._http

    def _call(self, name: str, request: Callable[[int], T], tries: int = 2) -> T:
        """Sends a request until it is answered, `tries` times at most; conflicts, in which nothing was done, aside."""
        until = min(time.monotonic() + deadline.time_left(at_most=self.max_wait), _give_up_at.get())
        while True:
            self.fail_if_away()
            left = until - time.monotonic()
            if left <= 0:
                _raise_out_of_time(name)
            try:
                return self._wait_for(name, request, left)
            except _Conflict:
                time.sleep(random.uniform(0, CONFLICT_PAUSE_SECONDS))  # noqa: S311 # spreads callers, hides nothing
            except StoreUnavailable:
                tries -= 1
                if tries == 0:
                    raise

    def _wait_for(self, name: str, request: Callable[[int], T], seconds: float) -> T:
        seconds = deadline.time_left(at_most=seconds)
        future = self._threads.submit(_translate, name, request, _milliseconds(seconds))
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            _raise_out_of_time(name)


def _translate(name: str, request: Callable[[int], T], milliseconds: int) -> T:
    with translated(name):
        return request(milliseconds)


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turns whatever a request ends in into errors of ours, and logs its code: astrapy's own texts quote values."""
    try:
        yield
    except DataAPIResponseException as error:
        _raise_answer(name, error)
    except DataAPIHttpException as error:
        status = error.response.status_code
        _log.error("store failed", store="astra", request=name, cause=f"HTTP {status}")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise CredentialsRefused from None
        raise StoreUnavailable(f"HTTP {status}") from None
    except DataAPITimeoutException:
        _raise_out_of_time(name)
    except Exception as error:
        # No connection, an answer that was cut, or one that makes no sense to astrapy.
        cause = type(error).__name__
        _log.error("store failed", store="astra", request=name, cause=cause)
        raise StoreUnavailable(cause) from None


def _raise_answer(name: str, error: DataAPIResponseException) -> NoReturn:
    found = error.error_descriptors[0] if error.error_descriptors else None
    family, code = (found.family, found.error_code) if found else (None, None)
    if code == "DOCUMENT_ALREADY_EXISTS":
        raise AlreadyExists from None
    if code == "FAILED_CONCURRENT_OPERATIONS":
        raise _Conflict from None
    _log.error("store failed", store="astra", request=name, family=family, cause=code)
    if family == "REQUEST":
        raise RequestRefused(code) from None
    raise StoreUnavailable(code) from None


def _raise_out_of_time(name: str) -> NoReturn:
    _log.error("store failed", store="astra", request=name, cause="time-out")
    if deadline.is_over():
        raise DeadlineExceeded from None
    raise StoreUnavailable("time-out") from None


def _milliseconds(seconds: float) -> int:
    # 0 would be no limit at all.
    return max(1, int(seconds * 1000))
