"""The stand-in as a server: what a test starts, sets faults on, and looks at."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import Any, Self, Unpack

from tests.support.data_api.errors import Refusal
from tests.support.data_api.faults import Fault, Faults, Kind
from tests.support.data_api.http_server import Reply, Server
from tests.support.data_api.journal import Journal, Matching, Request, matcher
from tests.support.data_api.state import State

_PATH = re.compile(r"/v1(/[^/]+){0,2}")
_BLOCK = bytes(1 << 15)


class DataApi(State):
    """A Data API with the semantics of release 1.0.51 on Apache Cassandra 5.0, for one user and one password.

    Each command takes `delay_ms`, and `row_ms` for each document or row that it answers, of waiting, and `burn_ms` of
    CPU. What needs no record of requests, as a benchmark, switches `keeps_requests` off. A context manager: starts and
    closes.
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
        super().__init__()
        self.username, self.password = username, password
        encoded = [base64.b64encode(text.encode()).decode() for text in (username, password)]
        self._token = ":".join(["Cassandra", *encoded])
        self._delay_ms, self._row_ms, self._burn_ms = delay_ms, row_ms, burn_ms
        self._keeps_requests = keeps_requests
        self._faults = Faults()
        self._journal = Journal()
        self._connections_before = 0
        self._server = Server(("127.0.0.1", port), self._respond)

    @property
    def url(self) -> str:
        """The API endpoint, for astrapy."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        self._server.start()
        return self

    def close(self) -> None:
        """Ends every connection; requests that hang are not carried out any more."""
        self._faults.clear(server_closes=True)
        self._server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def fail(
        self,
        kind: Kind,
        *,
        after_write: bool = False,
        skip: int = 0,
        times: int | None = None,
        **matching: Unpack[Matching],
    ) -> Fault:
        """Sets a fault for the requests that have everything that is given.

        It acts before the command is carried out or, with `after_write`, when it has been carried out and nothing has
        been answered yet. It lets `skip` requests pass, and then acts `times` times or until it is cleared:

            fail(Close(), skip=2)  # a crash before the third request
            fail(Close(), skip=2, times=1, after_write=True)  # the third is carried out, and its answer gets lost
        """
        matches = matcher(**matching)
        return self._faults.add(Fault(kind, matches, after_write=after_write, skip=skip, times=times))

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
        self._journal.clear()

    def wait_for(self, *, count: int = 1, timeout: float = 5.0, **matching: Unpack[Matching]) -> list[Request]:
        """Returns those requests, once so many of them have arrived (a hanging one has). Raises TimeoutError."""
        matches = matcher(**matching)
        self.wait_until(lambda: sum(map(matches, self.requests)) >= count, timeout)
        return list(filter(matches, self.requests))

    def wait_until(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        """Waits for the condition, asked again whenever a request has arrived or ended. Raises TimeoutError."""
        self._journal.wait_until(condition, timeout)

    def _respond(self, path: str, token: str | None, body: bytes) -> Reply:
        request = Request(path, _parsed(body))
        if self._keeps_requests:
            self._journal.add(request)
        faults = self._faults.met_by(request)
        try:
            return (
                _met([fault for fault in faults if not fault.after_write], None)
                or _met([fault for fault in faults if fault.after_write], reply := self._carry_out(request, token))
                or reply
            )
        finally:
            self._journal.wake()

    def _carry_out(self, request: Request, token: str | None) -> Reply:
        self._burn()
        try:
            answer = self._execute(request, token)
        except Refusal as refusal:
            return Reply.of(refusal.body, refusal.http_status)
        rows = len((answer.get("data") or {}).get("documents", ["one"]))
        pause = (self._delay_ms + self._row_ms * rows) / 1000
        if pause:
            time.sleep(pause)
        return Reply.of(answer)

    def _execute(self, request: Request, token: str | None) -> dict[str, Any]:
        if token != self._token:
            code = "UNAUTHENTICATED_REQUEST" if token else "MISSING_AUTHENTICATION_TOKEN"
            raise Refusal("SECURITY", code, "the token is missing or wrong")
        if not _PATH.fullmatch(request.path):
            raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", "a command is for the API, a keyspace or a table")
        return self.execute(request.below, request.body)

    def _burn(self) -> None:
        """Keeps a core busy, and lets other threads go on meanwhile: hashing a long text releases the GIL."""
        end = time.thread_time() + self._burn_ms / 1000
        while time.thread_time() < end:
            hashlib.sha256(_BLOCK)


def _met(faults: list[Fault], answer: Reply | None) -> Reply | None:
    for fault in faults:
        replaced = fault.kind.meet(fault, answer)
        if replaced is not None:
            return replaced
    return None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
