"""The stand-in as a server: what a test starts, sets faults on, and looks at."""

import json
import re
import threading
from collections.abc import Callable
from typing import Any, Self

from tests.support.data_api.answers import Answer
from tests.support.data_api.commands import execute
from tests.support.data_api.connection import ConnectionServer, Cut, HttpRequest, Reply
from tests.support.data_api.credentials import Credentials
from tests.support.data_api.direct_access import DirectAccess
from tests.support.data_api.faults import Fault, FaultList, Kind
from tests.support.data_api.journal import Journal, Predicate, Request, matcher
from tests.support.data_api.refusals import Refusal

_PATH = re.compile(r"/v1(/[^/]+){0,2}")
_POLL = 0.02  # seconds between two looks at whether to stop


class DataApi(DirectAccess):
    """A Data API on one machine's loopback, with the semantics of release 1.0.51 on Apache Cassandra 5.0.

    Give the user and the password that it takes, or a token instead of them; port 0 is one that is free. `base_ms` and
    `row_ms` (milliseconds a request, and a row of its answer) are how long it takes over a command; what needs no
    record of requests, as a benchmark, switches `keeps_requests` off. A context manager: starts and closes.
    """

    def __init__(
        self,
        *,
        username: str = "cassandra",
        password: str = "cassandra",
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        base_ms: float = 0,
        row_ms: float = 0,
        keeps_requests: bool = True,
    ) -> None:
        super().__init__()
        self.username, self.password = username, password
        self._credentials = Credentials(username=username, password=password, token=token)
        self._base_ms, self._row_ms = base_ms, row_ms
        self._faults = FaultList()
        self._journal = Journal(keeps_requests=keeps_requests)
        self._closing = threading.Event()
        self._connections_before = 0
        self._server = ConnectionServer((host, port), self._respond)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL,), name="data-api")

    @property
    def url(self) -> str:
        """The API endpoint, for astrapy."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        """Ends every connection and waits for its thread; requests that hang are let go without being carried out."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._faults.clear()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.disconnect_all()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def fail(
        self,
        kind: Kind,
        *,
        command: str | None = None,
        keyspace: str | None = None,
        name: str | None = None,
        where: Predicate | None = None,
        after_write: bool = False,
        times: int | None = None,
    ) -> Fault:
        """Sets a fault for the requests that have everything that is given, so many times or until it is cleared.

        It acts before the command is carried out, or, with `after_write`, when it was and nothing is answered yet.
        """
        matches = matcher(command=command, keyspace=keyspace, name=name, where=where)
        return self._faults.add(Fault(kind, matches, after_write=after_write, times=times))

    def clear_faults(self) -> None:
        self._faults.clear()

    @property
    def requests(self) -> list[Request]:
        """What has arrived since the last `forget_requests`."""
        return self._journal.requests

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted since the last `forget_requests`."""
        return self._server.accepted - self._connections_before

    def forget_requests(self) -> None:
        """Begins a new record; connections that are open stay so, and are not counted again."""
        self._connections_before = self._server.accepted
        self._journal.reset()

    def wait_for(
        self,
        *,
        command: str | None = None,
        keyspace: str | None = None,
        name: str | None = None,
        where: Predicate | None = None,
        count: int = 1,
        timeout: float = 5.0,
    ) -> list[Request]:
        """Those requests, as soon as so many of them have ARRIVED (a hanging one has). Raises TimeoutError."""
        return self._journal.wait_for(
            matcher(command=command, keyspace=keyspace, name=name, where=where), count, timeout
        )

    def wait_until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Waits for the condition, asked again whenever a request arrives or has ended. Raises TimeoutError."""
        self._journal.wait_until(condition, timeout)

    def _respond(self, request: HttpRequest, connection: int) -> Reply:
        body = _parsed(request.body)
        arrived = self._journal.arrived(connection, request.path, body)
        faults = self._faults.for_request(arrived)
        try:
            early = self._meet([fault for fault in faults if not fault.after_write], None)
            if early is not None:
                return early
            reply = self._carry_out(request, arrived)
            return self._meet([fault for fault in faults if fault.after_write], reply) or reply
        finally:
            self._journal.changed()

    def _meet(self, faults: list[Fault], answer: Reply | None) -> Reply | None:
        for fault in faults:
            replaced = fault.kind.meet(_Moment(fault, answer, self._closing))
            if replaced is not None:
                return replaced
        return None

    def _carry_out(self, request: HttpRequest, arrived: Request) -> Reply:
        try:
            answer = self._execute(request, arrived)
        except Refusal as refusal:
            return Reply.of(refusal.body(), refusal.http_status)
        busy = self._base_ms + self._row_ms * answer.rows
        if busy:
            self._closing.wait(busy / 1000)
        return Reply.of(answer.body())

    def _execute(self, request: HttpRequest, arrived: Request) -> Answer:
        if request.method != "POST" or not _PATH.fullmatch(request.path):
            raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", "a command is posted to the API, a keyspace or a table")
        self._credentials.check(request.headers.get("token"))
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Refusal("", "UNSUPPORTED_CONTENT_TYPE", "a command is JSON")
        if arrived.body is _NOT_JSON:
            raise Refusal("", "REQUEST_NOT_JSON", "the body is not JSON")
        with self._state:
            return execute(self._keyspaces, arrived.keyspace, arrived.name, arrived.body)


class _Moment:
    def __init__(self, fault: Fault, answer: Reply | None, closing: threading.Event) -> None:
        self.answer = answer
        self.cleared = fault.cleared
        self._closing = closing

    def wait(self, seconds: float | None) -> None:
        self.cleared.wait(seconds)
        if self._closing.is_set():
            raise Cut(reset=False)


_NOT_JSON: Any = ("not JSON",)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return _NOT_JSON
