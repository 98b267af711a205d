"""Batches concurrent look-ups into shared requests (docs/decisions.md has the figures)."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeAlias

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.observer import UNOBSERVED, Observer

MAX_KEYS = 100  # the Data API's limit for one `$in`; it returns that many in one page
UNDER_WAY = 2  # concurrent requests: enough to keep the server busy; more would only make each one smaller
PAUSE_SECONDS = 0.002  # under load, a request leaves once no look-up has come for this long
MAX_PAUSE_SECONDS = 0.012  # and no later than this, however many keep coming
RETURN_SECONDS = 0.25  # how long callers are expected back after they were last seen

Document = dict[str, Any]
Found = Mapping[str, Document]
Fetch = Callable[[Collection[str], float], Coroutine[Any, Any, Found]]
Request: TypeAlias = "asyncio.Task[Found]"
Batch = dict[str, list["asyncio.Future[Document | None]"]]  # by key, the look-ups that wait for it


class JoinedReads:
    """Reads documents by key. `fetch` takes up to MAX_KEYS keys and a time limit in seconds, and omits missing ones.

    A look-up joins the next request to be sent, never one already sent, so it sees every write that was answered before
    it began.

    A request leaves at once if as many look-ups wait or are under way as at any time in the last RETURN_SECONDS: then
    nobody else is likely to come, and a lone look-up never waits. Otherwise it waits while look-ups keep coming. The
    size of the last request says too little about how many may come. An event loop that is busy with small requests
    sees arrivals one by one, so the requests would stay small, although many callers wait outside.
    """

    def __init__(self, fetch: Fetch, max_wait: float, observer: Observer = UNOBSERVED) -> None:
        self._fetch = fetch
        self._observer = observer
        self._max_wait = max_wait
        self._waiting: Batch = {}
        self._since: dict[str, float] = {}  # by key, when its first waiting look-up began
        self._requests: dict[Request, Batch] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._peak = 0  # the most keys that lately waited or were under way at the same time
        self._peak_at = 0.0  # when they were last as many

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
        if not self._waiting:
            return
        all_are_here = self._note_presence()
        if len(self._requests) >= UNDER_WAY:
            return  # `_answer` calls this again when a request ends
        if all_are_here or len(self._waiting) >= MAX_KEYS:
            self._send()
        elif self._pause is None:
            self._gather_until(asyncio.get_running_loop().time() + MAX_PAUSE_SECONDS)

    def _note_presence(self) -> bool:
        """Returns whether as many keys as lately at most wait or are under way."""
        present, now = len(self._waiting) + sum(map(len, self._requests.values())), asyncio.get_running_loop().time()
        if present >= self._peak or now - self._peak_at > RETURN_SECONDS:
            self._peak, self._peak_at = present, now
        return present == self._peak

    def _gather_until(self, latest: float) -> None:
        """Sends the next request after a pause in which no look-up has come, or at the first pause past `latest`."""
        loop = asyncio.get_running_loop()
        waiting = len(self._waiting)

        def look_again() -> None:
            if len(self._waiting) > waiting and loop.time() < latest:
                self._gather_until(latest)
            else:
                self._send()

        self._pause = loop.call_later(PAUSE_SECONDS, look_again)

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
        self._send_or_gather()
