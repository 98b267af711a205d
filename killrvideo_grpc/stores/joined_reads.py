"""Look-ups that wait at the same moment share one request (docs/decisions.md has the figures)."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded, StoreUnavailable

MAX_KEYS = 50  # a page of the Data API: more keys in one `$in` would take a second request
UNDER_WAY = 2  # enough to keep the server busy; more would only make the requests smaller

Row = dict[str, Any]
Fetch = Callable[[Iterable[UUID], float], dict[UUID, Row]]


@dataclass(slots=True)
class _LookUp:
    key: UUID
    seconds: float
    row: "Future[Row | None]" = field(default_factory=Future)


class JoinedReads:
    """Reads rows by key. `fetch` takes up to 50 keys and the seconds it has, and leaves out what is missing.

    A look-up joins the next request to leave, never one that has left: it sees every write that was answered before
    it began. A lone one leaves at once.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._waiting: list[_LookUp] = []
        self._lock = threading.Lock()
        self._senders = ThreadPoolExecutor(UNDER_WAY, thread_name_prefix="joined-reads")

    def get(self, key: UUID, at_most: float) -> Row | None:
        """Reads one row, in the time of the call and never more than `at_most` seconds; None: there is none.

        Raises what `fetch` raises, DeadlineExceeded, or StoreUnavailable when `at_most` is over first.
        """
        look_up = _LookUp(key, deadline.time_left(at_most))
        with self._lock:
            self._waiting.append(look_up)
        self._senders.submit(self._send)
        try:
            return look_up.row.result(look_up.seconds)
        except TimeoutError:
            look_up.row.cancel()
            if deadline.is_over():
                raise DeadlineExceeded from None
            raise StoreUnavailable("time-out") from None

    def close(self) -> None:
        """Stops sending."""
        self._senders.shutdown(wait=False, cancel_futures=True)

    def _send(self) -> None:
        # Each look-up brought one of these about; the first to run takes all that wait, the others find none.
        batch = self._take()
        if not batch:
            return
        try:
            rows = self._fetch({look_up.key for look_up in batch}, max(look_up.seconds for look_up in batch))
        except Exception as error:
            for look_up in batch:
                look_up.row.set_exception(error)
        else:
            for look_up in batch:
                look_up.row.set_result(rows.get(look_up.key))

    def _take(self) -> list[_LookUp]:
        with self._lock:
            keys = set(list(dict.fromkeys(look_up.key for look_up in self._waiting))[:MAX_KEYS])
            waiting = [look_up for look_up in self._waiting if look_up.key in keys]
            self._waiting = [look_up for look_up in self._waiting if look_up.key not in keys]
        # From here on they can't be cancelled any more; those that gave up before are left out.
        return [look_up for look_up in waiting if look_up.row.set_running_or_notify_cancel()]
