"""Faults on demand: what goes wrong with a request, for which requests, and how often."""

import threading
from dataclasses import dataclass, replace
from typing import Protocol, Self

from tests.support.data_api.connection import Cut, Pace, Reply
from tests.support.data_api.journal import Predicate, Request
from tests.support.data_api.refusals import error

_NOTHING_FOUND = Reply.of({"data": {"document": None}, "status": {"projectionSchema": {}}})


class Moment(Protocol):
    """The request that a fault meets, before or after it was carried out."""

    answer: Reply | None  # what it would get; None before it was carried out
    cleared: threading.Event  # set when the fault is

    def wait(self, seconds: float | None) -> None:
        """Waits, without end when None, until the fault is cleared. Raises Cut when the server closes."""


class Kind(Protocol):
    """A kind of fault. Answers in place of the command, or None to go on with it."""

    def meet(self, moment: Moment) -> Reply | None: ...


@dataclass(frozen=True)
class Delay:
    """Goes on after a while."""

    seconds: float

    def meet(self, moment: Moment) -> None:
        moment.wait(self.seconds)


@dataclass(frozen=True)
class Hang:
    """Goes on when the fault is cleared, be the client still there or not."""

    def meet(self, moment: Moment) -> None:
        moment.wait(None)


@dataclass(frozen=True)
class Close:
    """Ends the TCP connection without an answer; with a reset, if wanted, as a machine does that has lost it."""

    reset: bool = False

    def meet(self, moment: Moment) -> Reply | None:
        raise Cut(reset=self.reset)


@dataclass(frozen=True)
class HttpStatus:
    """Another status than 200: with an error of the Data API's form when a code is given, else as a proxy writes it."""

    status: int
    code: str | None = None
    family: str = "REQUEST"

    def meet(self, moment: Moment) -> Reply:
        if self.code is None:
            return Reply(self.status, b"<html><body>it failed</body></html>", "text/html")
        return Reply.of({"errors": [error(self.code, scope="", message="a fault", family=self.family)]}, self.status)


@dataclass(frozen=True)
class ErrorAnswer:
    """An error at HTTP 200, as the API tells of most: of family SERVER, unless REQUEST is wanted."""

    code: str
    family: str = "SERVER"
    scope: str = "DATABASE"

    def meet(self, moment: Moment) -> Reply:
        return Reply.of({"errors": [error(self.code, scope=self.scope, message="a fault", family=self.family)]})


@dataclass(frozen=True)
class Garbage:
    """A body that is no JSON, at HTTP 200."""

    body: bytes = b"<html><body>this is no JSON</body></html>"

    def meet(self, moment: Moment) -> Reply:
        return Reply(200, self.body)


@dataclass(frozen=True)
class Truncate:
    """Half a body, and the connection is closed; the half of the true answer when the command was carried out."""

    def meet(self, moment: Moment) -> Reply:
        whole = moment.answer or _NOTHING_FOUND
        return replace(whole, sent=len(whole.body) // 2)


@dataclass(frozen=True)
class Drip:
    """The answer byte by byte, so many seconds apart until the fault is cleared: no read of the client takes long."""

    seconds: float

    def meet(self, moment: Moment) -> Reply:
        return replace(moment.answer or _NOTHING_FOUND, pace=Pace(self.seconds, moment.cleared))


class Fault:
    """A kind of fault in its place. Leaving it as a context, or `clear`, ends it and lets go what it holds."""

    def __init__(self, kind: Kind, matches: Predicate, *, after_write: bool, times: int | None) -> None:
        self.kind = kind
        self.after_write = after_write
        self.cleared = threading.Event()
        self.hits = 0
        self._matches = matches
        self._times = times

    def takes(self, request: Request) -> bool:
        """Whether this fault is for this request, which counts as one of its times. The caller holds a lock."""
        if self.cleared.is_set() or self.hits == self._times or not self._matches(request):
            return False
        self.hits += 1
        return True

    def clear(self) -> None:
        self.cleared.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


class FaultList:
    """The faults of a server, in the order in which they were set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def for_request(self, request: Request) -> list[Fault]:
        """Those that this request meets: each is asked once, when it arrives."""
        with self._lock:
            return [fault for fault in self._faults if fault.takes(request)]

    def clear(self) -> None:
        with self._lock:
            for fault in self._faults:
                fault.clear()
            self._faults.clear()
