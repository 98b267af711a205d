"""Batches concurrent look-ups into shared requests (docs/decisions.md has the figures)."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeAlias

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation

MAX_KEYS = 100  # the Data API's limit for one `$in`; it returns that many in one page
MAX_CONCURRENT_REQUESTS = 2  # concurrent requests: more would only make each one smaller
MAX_UNJOINED = 3  # concurrent look-ups up to which none waits for others
PAUSE_SECONDS = 0.004  # without a new look-up until a request is sent
MAX_PAUSE_SECONDS = 0.012  # that a look-up waits for others at most
PEAK_SECONDS = 0.25  # that a peak of concurrent look-ups is remembered

Document = dict[str, Any]
Found = Mapping[str, Document]
Fetch = Callable[[Collection[str], float], Coroutine[Any, Any, Found]]
Request: TypeAlias = "asyncio.Task[Found]"
Batch = dict[str, list["asyncio.Future[Document | None]"]]  # by key, the look-ups that wait for it


class BatchLoader:
    """Reads documents by key. `fetch` takes up to MAX_KEYS keys and a time limit in seconds, and omits missing ones.

    A look-up never joins a request already sent, so it sees every write that was answered before it.

    Sends at once at the concurrency peak of the last PEAK_SECONDS, or if that was no more than MAX_UNJOINED. Otherwise
    waits for a pause between arrivals or for the answer to the request under way, at most MAX_PAUSE_SECONDS.
    """

    def __init__(self, fetch: Fetch, max_wait: float, instrumentation: Instrumentation = NOOP) -> None:
        self._fetch = fetch
        self._instrumentation = instrumentation
        self._max_wait = max_wait
        self._waiting: Batch = {}
        self._since: dict[str, float] = {}  # by key, when its first waiting look-up began
        self._requests: dict[Request, Batch] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._present = 0  # look-ups that wait or are in progress
        self._peak = 0  # the most that were recently present at once
        self._peak_at = 0.0  # when that many were last present

    async def get(self, key: str) -> Document | None:
        """Read one document, or None, within about `max_wait` seconds. Raise the errors of `fetch`."""
        loop = asyncio.get_running_loop()
        look_up: asyncio.Future[Document | None] = loop.create_future()
        self._since.setdefault(key, loop.time())
        self._waiting.setdefault(key, []).append(look_up)
        self._present += 1
        self._send_or_gather()
        with self._instrumentation.lookup():
            return await look_up

    def close(self) -> None:
        """Fail all look-ups with StoreUnavailable and cancel the requests under way."""
        self._stop_pause()
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
        is_at_peak = self._update_peak()
        if len(self._requests) >= MAX_CONCURRENT_REQUESTS:
            return  # `_answer` calls this again when a request ends
        if is_at_peak or self._peak <= MAX_UNJOINED or len(self._waiting) >= MAX_KEYS:
            self._send()
        elif self._pause is None:
            self._gather()

    def _update_peak(self) -> bool:
        """Update the peak. Return whether as many look-ups are present as at any time in the last PEAK_SECONDS."""
        now = asyncio.get_running_loop().time()
        if self._present >= self._peak or now - self._peak_at > PEAK_SECONDS:
            self._peak, self._peak_at = self._present, now
        return self._present == self._peak

    def _gather(self) -> None:
        """Send the next request after a pause, or when the oldest look-up has waited long enough.

        While another request is under way, pauses mean nothing: its callers are not back yet.
        """
        loop, present = asyncio.get_running_loop(), self._present
        latest = next(iter(self._since.values())) + MAX_PAUSE_SECONDS

        def look_again() -> None:
            if self._present > present and loop.time() < latest:
                self._gather()
            else:
                self._send()

        pause_ends = latest if self._requests else min(loop.time() + PAUSE_SECONDS, latest)
        self._pause = loop.call_at(pause_ends, look_again)

    def _send(self) -> None:
        self._stop_pause()
        batch: Batch = {}
        oldest = now = asyncio.get_running_loop().time()
        while self._waiting and len(batch) < MAX_KEYS:
            key = next(iter(self._waiting))
            since, waiting = self._since.pop(key), self._waiting.pop(key)
            look_ups = [look_up for look_up in waiting if not look_up.done()]
            self._present -= len(waiting) - len(look_ups)  # the cancelled ones
            if look_ups:
                batch[key] = look_ups
                oldest = min(oldest, since)
        if batch:
            self._instrumentation.batch_sent(sum(map(len, batch.values())))
            # The oldest look-up's remaining time, but at least half of `max_wait` for the others.
            seconds = max(oldest + self._max_wait - now, self._max_wait / 2)
            # An empty context: the request must not be logged under the request id of one call.
            request = asyncio.create_task(self._fetch(batch.keys(), seconds), context=Context())
            self._requests[request] = batch
            request.add_done_callback(self._answer)

    def _stop_pause(self) -> None:
        if self._pause:
            self._pause.cancel()
            self._pause = None

    def _answer(self, request: Request) -> None:
        # A done callback also runs if the task was cancelled before its first step.
        self._stop_pause()
        batch = self._requests.pop(request)
        self._present -= sum(map(len, batch.values()))
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
