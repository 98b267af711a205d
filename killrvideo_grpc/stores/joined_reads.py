"""Look-ups that wait at the same moment share one request (docs/decisions.md has the figures)."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeAlias

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.observer import UNOBSERVED, Observer

MAX_KEYS = 100  # a Data API takes no more in one `$in`, and answers them in one page
UNDER_WAY = 2  # enough to keep the server busy; more would only make the requests smaller
PAUSE_SECONDS = 0.003  # for look-ups to gather while there are many
RETURN_SECONDS = 0.05  # within which callers who were answered and have more to ask are back

Document = dict[str, Any]
Found = Mapping[str, Document]
Fetch = Callable[[Collection[str], float], Coroutine[Any, Any, Found]]
Request: TypeAlias = "asyncio.Task[Found]"
Batch = dict[str, list["asyncio.Future[Document | None]"]]  # by key, all who look it up


class JoinedReads:
    """Reads documents by key. `fetch` takes up to MAX_KEYS keys and the seconds it has, and leaves out what is missing.

    A look-up joins the next request to leave, never one that has left: it sees every write that was answered before
    it began. A lone one leaves at once.
    """

    def __init__(self, fetch: Fetch, max_wait: float, observer: Observer = UNOBSERVED) -> None:
        self._fetch = fetch
        self._observer = observer
        self._max_wait = max_wait
        self._waiting: Batch = {}
        self._since: dict[str, float] = {}  # by key, when the first of those who wait for it came
        self._requests: dict[Request, Batch] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._last_answered = 0  # keys in the last request that ended
        self._last_answer = 0.0  # when that was

    async def get(self, key: str) -> Document | None:
        """Reads one document in about `max_wait` seconds; None if there is none. Raises what `fetch` raises."""
        loop = asyncio.get_running_loop()
        look_up: asyncio.Future[Document | None] = loop.create_future()
        self._since.setdefault(key, loop.time())
        self._waiting.setdefault(key, []).append(look_up)
        self._send_or_gather()
        with self._observer.looks_up():
            return await look_up

    def close(self) -> None:
        """Fails all look-ups that wait, and those whose requests are under way."""
        if self._pause:
            self._pause.cancel()
        for request in self._requests:
            request.cancel()
        for look_ups in self._waiting.values():
            for look_up in look_ups:
                if not look_up.done():
                    look_up.set_exception(StoreUnavailable("closed"))
        self._waiting.clear()
        self._since.clear()

    def _send_or_gather(self) -> None:
        if not self._waiting or len(self._requests) >= UNDER_WAY:
            return  # when a request ends, it comes back here
        # Callers that were just answered come back one by one. If the first of them took a request for itself, most
        # requests would be nearly empty; so each waits a little to grow as large as the others.
        loop = asyncio.get_running_loop()
        returning = self._last_answered if loop.time() - self._last_answer < RETURN_SECONDS else 0
        due = max(returning, *(len(batch) for batch in self._requests.values()), 0)
        if len(self._waiting) >= min(due, MAX_KEYS):
            self._send()
        elif self._pause is None:
            self._pause = loop.call_later(PAUSE_SECONDS, self._send)

    def _send(self) -> None:
        if self._pause:
            self._pause.cancel()
            self._pause = None
        batch: Batch = {}
        oldest = now = asyncio.get_running_loop().time()
        for key in list(self._waiting)[:MAX_KEYS]:
            oldest = min(oldest, self._since.pop(key))
            look_ups = [look_up for look_up in self._waiting.pop(key) if not look_up.done()]
            if look_ups:  # otherwise all of them were cancelled
                batch[key] = look_ups
        if batch:
            self._observer.joined(sum(map(len, batch.values())))
            # What the oldest look-up has left. But the others should not fail with it, so no less than half of it all.
            seconds = max(oldest + self._max_wait - now, self._max_wait / 2)
            # The request belongs to no call, so it is not logged as one's.
            request = asyncio.create_task(self._fetch(batch.keys(), seconds), context=Context())
            self._requests[request] = batch
            request.add_done_callback(self._answer)

    def _answer(self, request: Request) -> None:
        # Runs however the request ended, even if it was cancelled before its first step: nobody is left waiting.
        batch = self._requests.pop(request)
        failure = StoreUnavailable("closed") if request.cancelled() else request.exception()
        found = {} if failure else request.result()
        for key, look_ups in batch.items():
            for look_up in look_ups:
                if look_up.done():
                    continue
                if failure:
                    look_up.set_exception(failure)
                else:
                    look_up.set_result(found.get(key))
        self._last_answered, self._last_answer = len(batch), asyncio.get_running_loop().time()
        self._send_or_gather()
