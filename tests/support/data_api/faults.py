"""Faults on demand: what goes wrong with a request, with which requests, and how often."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

from tests.support.data_api.errors import error
from tests.support.data_api.http_server import Cut, Reply
from tests.support.data_api.journal import Request

_NOTHING_FOUND = Reply.of({"data": {"document": None}, "status": {"projectionSchema": {}}})


class Kind(Protocol):
    """A kind of fault."""

    def meet(self, fault: "Fault", answer: Reply | None) -> Reply | None:
        """Returns what is answered instead, or None to go on; the true answer exists if the command was executed."""


@dataclass(frozen=True)
class Delay:
    """Goes on after a while."""

    seconds: float

    def meet(self, fault: "Fault", answer: Reply | None) -> None:
        fault.wait(self.seconds)


@dataclass(frozen=True)
class Hang:
    """Goes on when the fault is cleared, even if the client has gone."""

    def meet(self, fault: "Fault", answer: Reply | None) -> None:
        fault.wait(None)


@dataclass(frozen=True)
class Close:
    """Ends the connection without an answer, or with a reset, as when a machine that lost its connections restarts."""

    reset: bool = False

    def meet(self, fault: "Fault", answer: Reply | None) -> Reply | None:
        raise Cut(reset=self.reset)


@dataclass(frozen=True)
class HttpStatus:
    """Another status than 200: with an error in the Data API's form if there is a code, else as a proxy writes it."""

    status: int
    code: str | None = None
    family: str = "REQUEST"

    def meet(self, fault: "Fault", answer: Reply | None) -> Reply:
        if self.code is None:
            return Reply(self.status, b"<html><body>it failed</body></html>", "text/html")
        return Reply.of({"errors": [error("", self.code, "a fault", self.family)]}, self.status)


@dataclass(frozen=True)
class ErrorAnswer:
    """An error at HTTP 200, which is how the API reports most of them."""

    code: str
    family: str = "SERVER"
    scope: str = "DATABASE"

    def meet(self, fault: "Fault", answer: Reply | None) -> Reply:
        return Reply.of({"errors": [error(self.scope, self.code, "a fault", self.family)]})


@dataclass(frozen=True)
class Garbage:
    """A body that is no answer of a Data API, at HTTP 200."""

    body: bytes = b"<html><body>this is not JSON</body></html>"

    def meet(self, fault: "Fault", answer: Reply | None) -> Reply:
        return Reply(200, self.body)


@dataclass(frozen=True)
class Truncate:
    """Half of the answer, and the end of the connection."""

    def meet(self, fault: "Fault", answer: Reply | None) -> Reply:
        whole = answer or _NOTHING_FOUND
        return replace(whole, sent=len(whole.body) // 2)


@dataclass(frozen=True)
class Drip:
    """The answer byte by byte, so many seconds apart until the fault is cleared: no read of the client takes long."""

    seconds: float

    def meet(self, fault: "Fault", answer: Reply | None) -> Reply:
        return replace(answer or _NOTHING_FOUND, pause=lambda: fault.wait(self.seconds))


class Fault:
    """A kind of fault and the requests that meet it.

    To clear it, or to leave it as a context manager, releases the requests that it holds.
    """

    def __init__(
        self, kind: Kind, matches: Callable[[Request], bool], *, after_write: bool, skip: int, times: int | None
    ) -> None:
        self.kind = kind
        self.after_write = after_write
        self.hits = 0
        self._matches = matches
        self._skip, self._times = skip, times
        self._cleared = threading.Event()
        self._server_closes = False

    def takes(self, request: Request) -> bool:
        """Tells whether the request meets this fault, and counts it. The caller holds a lock."""
        if self._cleared.is_set() or self.hits == self._times or not self._matches(request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.hits += 1
        return True

    def wait(self, seconds: float | None) -> None:
        """Waits until the fault is cleared, or so long. Raises Cut if the server closes meanwhile."""
        self._cleared.wait(seconds)
        if self._server_closes:
            raise Cut

    def clear(self, *, server_closes: bool = False) -> None:
        self._server_closes = server_closes
        self._cleared.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


class Faults:
    """The faults of a server, in the order in which they were set; for use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def met_by(self, request: Request) -> list[Fault]:
        with self._lock:
            return [fault for fault in self._faults if fault.takes(request)]

    def clear(self, *, server_closes: bool = False) -> None:
        with self._lock:
            for fault in self._faults:
                fault.clear(server_closes=server_closes)
            self._faults.clear()
