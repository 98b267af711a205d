"""Batches concurrent look-ups into shared requests (docs/decisions.md has the figures)."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeAlias

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.observer import UNOBSERVED, Observer

MAX_KEYS = 100  # the Data API's limit for one `$in`; it returns that many in one page
UNDER_WAY = 2  # concurrent requests: enough to keep the server busy; more would only make each one smaller
PAUSE_SECONDS = 0.003  # how long a request waits for more look-ups under load
RETURN_SECONDS = 0.05  # within which callers that were just answered usually send their next look-up

Document = dict[str, Any]
Found = Mapping[str, Document]
Fetch = Callable[[Collection[str], float], Coroutine[Any, Any, Found]]
Request: TypeAlias = "asyncio.Task[Found]"
Batch = dict[str, list["asyncio.Future[Document | None]"]]  # by key, the look-ups that wait for it


class JoinedReads:
    """Reads documents by key. `fetch` takes up to MAX_KEYS keys and a time limit in seconds, and omits missing ones.

    A look-up joins the next request to be sent, never one already sent, so it sees every write that was answered before
    it began. A look-up without others around is sent at once.
    """

    def __init__(self, fetch: Fetch, max_wait: float, observer: Observer = UNOBSERVED) -> None:
        self._fetch = fetch
        self._observer = observer
        self._max_wait = max_wait
        self._waiting: Batch = {}
        self._since: dict[str, float] = {}  # by key, when its first waiting look-up began
        self._requests: dict[Request, Batch] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._last_answered = 0  # number of keys in the last answered request
        self._last_answer = 0.0  # when that was

    async def get(self, key: str) -> Document | None:
        """Reads one document within about `max_wait` seconds; None if there is none. Raises the errors of `fetch`."""
        loop = asyncio.get_running_loop()
        look_up: asyncio.Future[Document | None] = loop.create_future()
        self._since.setdefault(key, loop.time())
        self._waiting.setdefault(key, []).append(look_up)
        self._send_or_gather()
        with self._observer.looks_up():
            return await look_up

    def close(self) -> None:
        """Fails all look-ups with StoreUnavailable and cancels the requests under way."""
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
            return  # `_answer` calls this again when a request ends
        # Callers that were just answered send their next look-ups one by one. If the first left alone, most requests
        # would be nearly empty. So wait briefly for about as many look-ups as the other recent requests carried.
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
            if look_ups:  # not all of them were cancelled
                batch[key] = look_ups
        if batch:
            self._observer.joined(sum(map(len, batch.values())))
            # The time that the oldest look-up has left, but at least half of `max_wait` for the sake of the others.
            seconds = max(oldest + self._max_wait - now, self._max_wait / 2)
            # An empty context: the request belongs to no single call and must not be logged under one's request id.
            request = asyncio.create_task(self._fetch(batch.keys(), seconds), context=Context())
            self._requests[request] = batch
            request.add_done_callback(self._answer)

    def _answer(self, request: Request) -> None:
        # A done callback also runs if the task was cancelled before its first step, so no look-up waits for ever.
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
