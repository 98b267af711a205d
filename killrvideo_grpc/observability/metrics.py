"""Metrics for Prometheus, on a port of their own. docs/operations.md explains each of them.

No label has a value that a caller can choose: all methods that don't exist share the label `unknown`.
"""

import asyncio
import platform
import time
from contextlib import AbstractContextManager
from importlib.metadata import version
from types import TracebackType
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from killrvideo_grpc.domain.errors import ServiceError, SetupError
from killrvideo_grpc.domain.instrumentation import Observer
from killrvideo_grpc.rpc.call import Call, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.logging import final_code

UNKNOWN = "unknown"  # the label of all methods that don't exist
LAG_SECONDS = 0.25  # between two measurements
CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STORE_BUCKETS = (0.00001, 0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
LOOK_UP_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

# By name, because importing the store's errors would import astrapy, which takes a quarter of the start-up time.
OUTCOMES = {
    "AlreadyExists": "ok",  # an expected answer
    "CancelledError": "abandoned",
    "Conflict": "conflict",
    "CredentialsRefused": "unavailable",
    "RequestRefused": "refused",
    "StoreUnavailable": "unavailable",
    "UnusableStore": "refused",
}


class Metrics(Observer):
    """Counts and times what it observes, and answers scrapes on a port. Also an interceptor, which counts the calls.

    `store` is the kind of store, for the build info.
    """

    def __init__(self, store: str, host: str, port: int) -> None:
        self._host, self._port = host, port
        disable_created_metrics()  # type: ignore[no-untyped-call] # creation times would make up a third of the page
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        labels = ["version", "python", "store"]
        build = Gauge("killrvideo_build_info", "Always 1; the labels say what runs.", labels, registry=registry)
        build.labels(version("killrvideo-grpc"), platform.python_version(), store).set(1)
        self._calls = Counter("killrvideo_calls", "Calls that have ended.", ["method", "code"], registry=registry)
        self._durations = _histogram(registry, "call_duration", "Duration of calls.", CALL_BUCKETS, "method")
        self._in_flight = Gauge(
            "killrvideo_calls_in_flight", "Calls in flight, including Health.Watch.", ["method"], registry=registry
        )
        self._refusals = Counter(
            "killrvideo_refusals",
            "Calls that ended in an error of the contract, by reason.",
            ["method", "reason"],
            registry=registry,
        )
        self._hash_queue = Gauge(
            "killrvideo_hash_queue_length", "Passwords waiting for a hashing thread.", registry=registry
        )
        self._hash_waits = _histogram(registry, "hash_wait", "How long a password waited for a thread.", CALL_BUCKETS)
        self._hashes = _histogram(registry, "hash_duration", "How long hashing took.", CALL_BUCKETS)
        self._lags = _histogram(registry, "loop_lag", "How late the event loop resumed a coroutine.", LAG_BUCKETS)
        self._requests = Histogram(
            "killrvideo_store_request_duration_seconds",
            "Requests to the store.",
            ["kind", "outcome"],
            buckets=STORE_BUCKETS,
            registry=registry,
        )
        self._time_outs = Counter(
            "killrvideo_store_timeouts", "Requests to the store that timed out.", ["kind"], registry=registry
        )
        self._look_ups = Histogram(
            "killrvideo_joined_look_ups",
            "Account look-ups per request to the Data API.",
            buckets=LOOK_UP_BUCKETS,
            registry=registry,
        )
        self._backlog = Gauge(
            "killrvideo_sweep_backlog", "Unfinished accounts that the last sweep found.", registry=registry
        )
        self._sweeps = Counter("killrvideo_sweeps", "Sweeps of the store.", ["outcome"], registry=registry)
        self._failed_sweeps, self._good_sweeps = self._sweeps.labels("failed"), self._sweeps.labels("ok")
        self._server: Any = None
        self._measuring: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts answering scrapes, on a thread. Raises SetupError."""
        try:
            self._server, _ = start_http_server(self._port, self._host, self._registry)
        except OSError as error:
            address = f"{self._host}:{self._port}"
            raise SetupError(
                f"Can't listen on {address} for metrics: {error.strerror}. Set METRICS_PORT to a free port."
            ) from None
        self._measuring = asyncio.create_task(self._measure_lag())

    async def stop(self) -> None:
        """Stops answering scrapes."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait([self._measuring])
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        name = UNKNOWN if handler is None else method.rpartition("/")[2]
        if handler is not None and not method.startswith("/killrvideo."):
            name = method.removeprefix("/")
        duration, in_flight = self._durations.labels(name), self._in_flight.labels(name)
        # Created up front: Prometheus would see no increase in a series that first appears with the value 1.
        by_code = {"INTERNAL": self._calls.labels(name, "INTERNAL")}

        async def counted(call: Call) -> Any:
            started, cancelled = time.perf_counter(), False
            in_flight.inc()
            try:
                return await proceed(call)
            except asyncio.CancelledError:
                cancelled = True
                raise
            finally:
                in_flight.dec()
                duration.observe(time.perf_counter() - started)
                code = final_code(call.context, cancelled)
                if code not in by_code:
                    by_code[code] = self._calls.labels(name, code)
                by_code[code].inc()

        return counted

    def refused(self, method: str, reason: str) -> None:
        self._refusals.labels(method.rpartition("/")[2], reason).inc()

    def waits_for_hash(self) -> AbstractContextManager[None]:
        return _Waiting(self._hash_waits, self._hash_queue)

    def hashes(self) -> AbstractContextManager[None]:
        return _Timed(self._hashes)

    def asks_store(self, kind: str) -> AbstractContextManager[None]:
        return _Request(self._requests, kind)

    def timed_out(self, kind: str) -> None:
        self._time_outs.labels(kind).inc()

    def joined(self, look_ups: int) -> None:
        self._look_ups.observe(look_ups)

    def swept(self, found: int | None) -> None:
        if found is None:
            self._failed_sweeps.inc()
        else:
            self._good_sweeps.inc()
            self._backlog.set(found)

    async def _measure_lag(self) -> None:
        while True:
            due = time.perf_counter() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._lags.observe(max(0.0, time.perf_counter() - due))


def _histogram(
    registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...], *labels: str
) -> Histogram:
    return Histogram(f"killrvideo_{name}_seconds", text, labels, buckets=buckets, registry=registry)


class _Timed:
    """Observes how long its body takes. A class, because a generator would cost several times as much."""

    __slots__ = ("_histogram", "_started")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._histogram.observe(time.perf_counter() - self._started)


class _Waiting(_Timed):
    """Also keeps the number of those waiting in a gauge."""

    __slots__ = ("_queue",)

    def __init__(self, histogram: Histogram, queue: Gauge) -> None:
        super().__init__(histogram)
        self._queue = queue

    def __enter__(self) -> None:
        self._queue.inc()
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queue.dec()
        super().__exit__(kind, error, traceback)


class _Request(_Timed):
    """Has the outcome as a label, which is known only at the end."""

    __slots__ = ("_kind",)

    def __init__(self, histogram: Histogram, kind: str) -> None:
        super().__init__(histogram)
        self._kind = kind

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._histogram.labels(self._kind, _outcome(kind)).observe(time.perf_counter() - self._started)


def _outcome(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "ok"
    answered = "ok" if issubclass(kind, ServiceError) else "failed"  # such as UserNotFound
    return OUTCOMES.get(kind.__name__, answered)
