"""The fake as a server, with its faults, records and contents."""

import asyncio
import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar, Unpack
from uuid import UUID

import orjson
from aiohttp import web

from tests.support.fake_data_api.collection import Collection
from tests.support.fake_data_api.database import Database, execute
from tests.support.fake_data_api.errors import Answer, Refusal
from tests.support.fake_data_api.faults import Fault, Kind, reply
from tests.support.fake_data_api.http_server import HttpServer
from tests.support.fake_data_api.queries import Entry
from tests.support.fake_data_api.requests import Matching, Request, matcher
from tests.support.fake_data_api.table import Table

Json = dict[str, Any]
Snapshot = dict[tuple[str, str], dict[Any, Entry]]  # of each table and collection of each keyspace
T = TypeVar("T")

_PATH = re.compile(r"/v1(/[^/]+){0,2}")
_BLOCK = bytes(1 << 15)


class FakeDataApi:
    """A Data API with the semantics of release 1.0.51 on Apache Cassandra 5.0.

    Each command waits `delay_ms`, plus `row_ms` per document or row in its answer, and uses `burn_ms` of CPU.
    Benchmarks switch `keeps_requests` off. Can be used as a context manager, which closes it.

    Requests are answered on a thread of its own. One lock makes every command, and every access by a test, atomic.
    Values are in JSON: timestamps and uuids as text, sets as sorted lists, cells without a value left out. Access
    raises Refusal if the keyspace, table or collection is missing, or a value does not fit.
    """

    def __init__(
        self,
        *,
        username: str = "cassandra",
        password: str = "cassandra",
        port: int = 0,
        delay_ms: float = 0,
        row_ms: float = 0,
        burn_ms: float = 0,
        keeps_requests: bool = True,
    ) -> None:
        self.username, self.password = username, password
        encoded = [base64.b64encode(text.encode()).decode() for text in (username, password)]
        self._token = ":".join(["Cassandra", *encoded])
        self._delay_ms, self._row_ms, self._burn_ms = delay_ms, row_ms, burn_ms
        self._keeps_requests = keeps_requests
        self._database = Database()
        self._faults: list[Fault] = []
        self._requests: list[Request] = []
        self._under_way = 0
        self._changed = threading.Condition()  # guards all of these
        self._connections_before = 0
        self._server = HttpServer(self._respond, port)

    def close(self) -> None:
        """End every connection. Requests that hang are never carried out."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The API endpoint, for astrapy."""
        return f"http://127.0.0.1:{self._server.port}"

    def fail(
        self,
        kind: Kind,
        *,
        after_write: bool = False,
        skip: int = 0,
        times: int | None = None,
        **matching: Unpack[Matching],
    ) -> Fault:
        """Set a fault for requests that have everything given.

        It acts before the command is carried out or, with `after_write`, before the answer. It lets `skip` requests
        pass, then acts `times` times or until it is cleared:

            fail(Close(), skip=2)  # a crash before the third request
            fail(Close(), skip=2, times=1, after_write=True)  # the third is carried out, and its answer is lost
        """
        fault = Fault(kind, matcher(**matching), after_write=after_write, skip=skip, times=times)
        with self._changed:
            self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        with self._changed:
            for fault in self._faults:
                fault.clear()
            self._faults.clear()

    @property
    def requests(self) -> list[Request]:
        """What has arrived since the last `forget_requests`."""
        with self._changed:
            return list(self._requests)

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted since the last `forget_requests`."""
        return self._server.accepted - self._connections_before

    def forget_requests(self) -> None:
        """Begin a new record. Open connections are not counted again."""
        with self._changed:
            self._connections_before = self._server.accepted
            self._requests.clear()

    def wait_for(self, *, count: int = 1, timeout: float = 5.0, **matching: Unpack[Matching]) -> list[Request]:
        """Return these requests once `count` of them, hanging ones too, have arrived. Raise TimeoutError."""
        matches = matcher(**matching)
        self.wait_until(lambda: sum(map(matches, self.requests)) >= count, timeout)
        return list(filter(matches, self.requests))

    def wait_until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Wait for the condition, checked whenever a request arrives or ends. Raise TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                arrived = [request.command for request in self._requests]
                raise TimeoutError(f"not within {timeout} s; arrived: {arrived}")

    def execute(self, path: list[str], body: Any) -> Answer:
        """Carry out a command on the database, a keyspace, or a table or collection, as a request would."""
        with self._changed:
            return execute(self._database, path, body)

    def snapshot(self) -> Snapshot:
        """Return all documents and rows, for `restore`."""
        with self._changed:
            return {(name, place): dict(found.entries) for name, place, found in self._places()}

    def restore(self, snapshot: Snapshot) -> None:
        """Put documents and rows back, beside those that are there."""
        with self._changed:
            for (name, place), entries in snapshot.items():
                self._database[name][place].entries.update(entries)

    def empty(self) -> None:
        """Delete all documents and rows, once no request is under way."""
        self.wait_until(lambda: self._under_way == 0, timeout=60)
        with self._changed:
            for _, _, found in self._places():
                found.entries.clear()

    def put_keyspace(self, keyspace: str) -> None:
        self.execute([], {"createKeyspace": {"name": keyspace}})

    def put_table(self, keyspace: str, table: str, definition: Json) -> None:
        """Create a table as CQL can, with any types, from the form of `listTables`."""
        with self._changed:
            self._database[keyspace][table] = Table(definition, made_by_cql=True)

    def put_row(self, keyspace: str, table: str, row: Json) -> None:
        """Write a row as insertOne does."""
        self.execute([keyspace, table], {"insertOne": {"document": row}})

    def row(self, keyspace: str, table: str, key: UUID | str) -> Json | None:
        """Return the row whose primary key is this one value."""
        with self._changed:
            found = self._database[keyspace][table].entries.get((str(key),))
            return _copy(found.content) if found else None

    def rows(self, keyspace: str, table: str) -> list[Json]:
        with self._changed:
            return _copy([entry.content for entry in self._database[keyspace][table].entries.values()])

    def document(self, keyspace: str, collection: str, document_id: Any) -> Json | None:
        with self._changed:
            contents = (entry.content for entry in self._database[keyspace][collection].entries.values())
            return _copy(next((content for content in contents if content["_id"] == document_id), None))

    def documents(self, keyspace: str, collection: str) -> list[Json]:
        return self.rows(keyspace, collection)

    def _places(self) -> list[tuple[str, str, Table | Collection]]:
        """Return each table and collection with its keyspace and its name."""
        return [(name, place, found) for name, keyspace in self._database.items() for place, found in keyspace.items()]

    async def _respond(self, http: web.BaseRequest) -> web.StreamResponse:
        request = Request(http.path, _parsed(await http.read()))
        with self._changed:
            self._under_way += 1
            faults = [fault for fault in self._faults if fault.takes(request)]
            if self._keeps_requests:
                self._requests.append(request)
            self._changed.notify_all()
        try:
            instead = await _met([fault for fault in faults if not fault.after_write], http, None)
            if instead is not None:
                return instead
            answer = await self._carry_out(http, request)
            return await _met([fault for fault in faults if fault.after_write], http, answer) or answer
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    async def _carry_out(self, http: web.BaseRequest, request: Request) -> web.Response:
        if self._burn_ms:
            await asyncio.to_thread(self._burn)
        try:
            answer = self._execute(http, request)
        except Refusal as refusal:
            return reply(refusal.body, refusal.http_status)
        rows = len((answer.get("data") or {}).get("documents", ["one"]))
        pause = (self._delay_ms + self._row_ms * rows) / 1000
        if pause:
            await asyncio.sleep(pause)
        return reply(answer)

    def _execute(self, http: web.BaseRequest, request: Request) -> Answer:
        token = http.headers.get("Token")
        if token != self._token:
            code = "UNAUTHENTICATED_REQUEST" if token else "MISSING_AUTHENTICATION_TOKEN"
            raise Refusal("SECURITY", code, "the token is missing or wrong")
        if not _PATH.fullmatch(request.path):
            raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", "a command is for the API, a keyspace or a table")
        return self.execute(request.below, request.body)

    def _burn(self) -> None:
        """Keep a core busy without the GIL, which hashing a long text releases."""
        end = time.thread_time() + self._burn_ms / 1000
        while time.thread_time() < end:
            hashlib.sha256(_BLOCK)


async def _met(faults: list[Fault], http: web.BaseRequest, answer: web.Response | None) -> web.StreamResponse | None:
    for fault in faults:
        replaced = await fault.kind.meet(fault, http, answer)
        if replaced is not None:
            return replaced
    return None


def _copy(content: T) -> T:
    """Return a deep copy of JSON values, in a tenth of the time that `copy.deepcopy` takes."""
    copied: T = orjson.loads(orjson.dumps(content))
    return copied


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None
