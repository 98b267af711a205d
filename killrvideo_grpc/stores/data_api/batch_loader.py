"""Batches concurrent look-ups into shared requests (docs/decisions.md has the figures)."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeAlias

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.stores.data_api.concurrency_limit import ConcurrencyLimit

MAX_KEYS = 100  # the Data API's limit for one `$in`; it returns that many in one page

Document = dict[str, Any]
Documents = Mapping[str, Document]
Fetch = Callable[[Collection[str], float], Coroutine[Any, Any, Documents]]
Request: TypeAlias = "asyncio.Task[Documents]"
Batch = dict[str, list["asyncio.Future[Document | None]"]]  # by key, the look-ups that wait for it


@dataclass(frozen=True, slots=True)
class _Sent:
    batch: Batch
    at: float


class BatchLoader:
    """Reads documents by key. `fetch` takes up to MAX_KEYS keys and a time limit in seconds, and omits missing ones.

    A look-up never joins a request already sent, so it sees every write that was answered before it.

    Sends a look-up at once while the Data API bears one more request. Otherwise the look-up waits for one to end, and
    shares the next.
    """

    def __init__(
        self,
        fetch: Fetch,
        max_wait: float,
        instrumentation: Instrumentation = NOOP,
        limit: ConcurrencyLimit | None = None,
    ) -> None:
        self._fetch = fetch
        self._instrumentation = instrumentation
        self._max_wait = max_wait
        self._waiting: Batch = {}
        self._since: dict[str, float] = {}  # by key, when its first waiting look-up began
        self._requests: dict[Request, _Sent] = {}
        self._limit = limit or ConcurrencyLimit()

    async def get(self, key: str) -> Document | None:
        """Read one document, or None, within about `max_wait` seconds. Raise the errors of `fetch`."""
        loop = asyncio.get_running_loop()
        look_up: asyncio.Future[Document | None] = loop.create_future()
        self._since.setdefault(key, loop.time())
        self._waiting.setdefault(key, []).append(look_up)
        self._send()
        with self._instrumentation.lookup():
            return await look_up

    def close(self) -> None:
        """Fail all look-ups with StoreUnavailable and cancel the requests under way."""
        for request in self._requests:
            request.cancel()
        for look_ups in self._waiting.values():
            for look_up in look_ups:
                if not look_up.done():
                    look_up.set_exception(StoreUnavailable("closed"))
        self._waiting.clear()
        self._since.clear()

    def _send(self) -> None:
        """Send what waits, in as many requests as may be under way."""
        now = asyncio.get_running_loop().time()
        while self._waiting and len(self._requests) < self._limit.requests:
            batch, oldest = self._next_batch(now)
            if not batch:
                continue
            self._instrumentation.batch_sent(sum(map(len, batch.values())))
            # The oldest look-up's remaining time, but at least half of `max_wait` for the others.
            seconds = max(oldest + self._max_wait - now, self._max_wait / 2)
            # An empty context: the request must not be logged under the request id of one call.
            request = asyncio.create_task(self._fetch(batch.keys(), seconds), context=Context())
            self._requests[request] = _Sent(batch, now)
            request.add_done_callback(self._answer)

    def _next_batch(self, now: float) -> tuple[Batch, float]:
        """Take up to MAX_KEYS keys with look-ups that weren't cancelled. Return them, and when the oldest began."""
        batch: Batch = {}
        oldest = now
        while self._waiting and len(batch) < MAX_KEYS:
            key = next(iter(self._waiting))
            since, waiting = self._since.pop(key), self._waiting.pop(key)
            if look_ups := [look_up for look_up in waiting if not look_up.done()]:
                batch[key] = look_ups
                oldest = min(oldest, since)
        return batch, oldest

    def _answer(self, request: Request) -> None:
        # A done callback also runs if the task was cancelled before its first step.
        sent = self._requests.pop(request)
        failure = StoreUnavailable("closed") if request.cancelled() else request.exception()
        found = {} if failure else request.result()
        if not failure:
            seconds = asyncio.get_running_loop().time() - sent.at
            self._limit.update(seconds, len(self._waiting))
        for key, look_ups in sent.batch.items():
            for look_up in look_ups:
                if look_up.done():
                    continue
                if failure:
                    look_up.set_exception(failure)
                else:
                    look_up.set_result(found.get(key))
        self._send()
