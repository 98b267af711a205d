"""Metrics for Prometheus, on a port of their own. docs/operations.md explains each of them.

No label has a value that a caller can choose: all methods that don't exist share the label `unknown`.
"""

import asyncio
import platform
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
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

from killrvideo_grpc.domain.errors import ServiceError, SetupError, StoreUnavailable, UnusableStore
from killrvideo_grpc.domain.instrumentation import CallMeter, Instrumentation

LAG_INTERVAL = 0.25  # seconds between two measurements
CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STORE_BUCKETS = (0.00001, 0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
LOOKUP_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

# The outcome of a store request by its exception, the first that fits. Exceptions of a store can have an `outcome`.
OUTCOMES: Mapping[type[BaseException], str] = {
    asyncio.CancelledError: "abandoned",
    StoreUnavailable: "unavailable",
    UnusableStore: "refused",
    ServiceError: "ok",  # an answer, such as UserNotFound
    BaseException: "failed",
}


class Metrics(Instrumentation):
    """The metrics, and the port that answers scrapes. `store` is the kind of store, for the build info."""

    def __init__(self, store: str, host: str, port: int) -> None:
        self._host, self._port = host, port
        disable_created_metrics()  # type: ignore[no-untyped-call] # creation times would make up a third of the page
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        counter = partial(Counter, namespace="killrvideo", registry=registry)
        gauge = partial(Gauge, namespace="killrvideo", registry=registry)
        histogram = partial(Histogram, namespace="killrvideo", registry=registry)

        build = gauge("build_info", "Always 1; the labels say what runs.", ["version", "python", "store"])
        build.labels(version("killrvideo-grpc"), platform.python_version(), store).set(1)
        self._calls = counter("calls", "Calls that have ended.", ["method", "code"])
        self._durations = histogram("call_duration_seconds", "Duration of calls.", ["method"], buckets=CALL_BUCKETS)
        self._in_flight = gauge("calls_in_flight", "Calls in flight, including Health.Watch.", ["method"])
        self._refusals = counter("refusals", "Calls that ended in an error of the contract.", ["method", "reason"])
        self._service_calls = counter("service_calls", "Calls of services that have ended.", ["service", "method"])
        self._hash_queue = gauge("hash_queue_length", "Passwords waiting to be hashed.")
        self._hash_waits = histogram("hash_wait_seconds", "Waits of passwords to be hashed.", buckets=CALL_BUCKETS)
        self._hashes = histogram("hash_duration_seconds", "Duration of hashing.", buckets=CALL_BUCKETS)
        self._lags = histogram("loop_lag_seconds", "Delays of a coroutine by the event loop.", buckets=LAG_BUCKETS)
        name = "store_request_duration_seconds"
        self._requests = histogram(name, "Requests to the store.", ["kind", "outcome"], buckets=STORE_BUCKETS)
        self._timeouts = counter("store_timeouts", "Requests to the store that timed out.", ["kind"])
        self._lookups = histogram("joined_look_ups", "Look-ups per request to the Data API.", buckets=LOOKUP_BUCKETS)
        self._backlog = gauge("sweep_backlog", "Unfinished accounts that the last sweep found.")
        self._sweeps = counter("sweeps", "Sweeps of the store.", ["outcome"])
        self._failed_sweeps, self._good_sweeps = self._sweeps.labels("failed"), self._sweeps.labels("ok")
        name = "certificate_expiry_timestamp_seconds"
        self._certificate_expiry = gauge(name, "When the TLS certificate expires; 0 without TLS.")
        self._server: Any = None
        self._measuring: asyncio.Task[None] | None = None

    def start_export(self) -> None:
        try:
            self._server, _ = start_http_server(self._port, self._host, self._registry)
        except OSError as error:
            address = f"{self._host}:{self._port}"
            raise SetupError(
                f"Can't listen on {address} for metrics: {error.strerror}. Set METRICS_PORT to a free port."
            ) from None
        self._measuring = asyncio.create_task(self._measure_lag())

    async def stop_export(self) -> None:
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait([self._measuring])
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    def call_meter(self, method: str) -> CallMeter:
        return _CallMeter(method, self._calls, self._durations, self._in_flight, self._refusals, self._service_calls)

    def hash_wait(self) -> AbstractContextManager[None]:
        return _Waiting(self._hash_waits, self._hash_queue)

    def password_hash(self) -> AbstractContextManager[None]:
        return _Timed(self._hashes)

    def store_request(self, kind: str) -> AbstractContextManager[None]:
        return _StoreRequest(self._requests, kind)

    def store_timeout(self, kind: str) -> None:
        self._timeouts.labels(kind).inc()

    def batch_sent(self, lookups: int) -> None:
        self._lookups.observe(lookups)

    def certificate_loaded(self, expiry: datetime) -> None:
        self._certificate_expiry.set(expiry.timestamp())

    def sweep_done(self, found: int | None) -> None:
        if found is None:
            self._failed_sweeps.inc()
        else:
            self._good_sweeps.inc()
            self._backlog.set(found)

    async def _measure_lag(self) -> None:
        while True:
            due = time.perf_counter() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._lags.observe(max(0.0, time.perf_counter() - due))


class _CallMeter:
    """The metrics of one method."""

    __slots__ = ("_by_code", "_calls", "_duration", "_in_flight", "_method", "_refusals", "_service_calls")

    def __init__(
        self,
        method: str,
        calls: Counter,
        durations: Histogram,
        in_flight: Gauge,
        refusals: Counter,
        service_calls: Counter,
    ) -> None:
        self._method, self._calls, self._refusals, self._service_calls = method, calls, refusals, service_calls
        self._duration, self._in_flight = durations.labels(method), in_flight.labels(method)
        # Created up front: Prometheus would see no increase in a series that first appears with the value 1.
        self._by_code = {"INTERNAL": calls.labels(method, "INTERNAL")}

    def call_started(self) -> None:
        self._in_flight.inc()

    def call_ended(self, code: str, reason: str | None, seconds: float, service: str | None) -> None:
        self._in_flight.dec()
        self._duration.observe(seconds)
        if code not in self._by_code:
            self._by_code[code] = self._calls.labels(self._method, code)
        self._by_code[code].inc()
        if reason:
            self._refusals.labels(self._method, reason).inc()
        if service:
            self._service_calls.labels(service, self._method).inc()


class _Timed:
    """A timer around a block. A generator would cost several times as much."""

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
    """A timer that also counts those waiting."""

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


class _StoreRequest(_Timed):
    """A timer with the outcome as a label."""

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
    named: str | None = getattr(kind, "outcome", None)
    return named or next(outcome for known, outcome in OUTCOMES.items() if issubclass(kind, known))
