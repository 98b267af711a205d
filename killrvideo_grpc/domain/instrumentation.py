"""The port through which the service reports what it does. `observability` implements it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Protocol, TypeAlias

_NOTHING: AbstractContextManager[None] = nullcontext()


class CallMeter(Protocol):
    """Metrics of the calls of one method."""

    def call_started(self) -> None: ...

    def call_ended(self, code: str, reason: str | None, seconds: float, service: str | None) -> None:
        """Record a call. `reason` is its error's in the error table; `service` is the actor if it is a service."""


class CallSpan(Protocol):
    """The span of one call."""

    trace_id: str

    def set_code(self, code: str) -> None:
        """Record the status code."""


CallTracer: TypeAlias = Callable[[str | None], AbstractContextManager[CallSpan]]
"""Opens the span of a call, as a child of the caller's `traceparent` if there is one."""


class Instrumentation:
    """Hooks for metrics and traces, called on the event loop. The base class does nothing.

    No client can choose a kind, method, reason or service.
    """

    def start_export(self) -> None:
        """Start answering scrapes. Raise SetupError."""

    async def stop_export(self) -> None:
        """Stop answering scrapes, and send the remaining traces."""

    def call_meter(self, method: str) -> CallMeter | None:
        """Return the meter of a method, or None if metrics are disabled."""
        return None

    def call_tracer(self, method: str) -> CallTracer | None:
        """Return the tracer of a method (`/package.Service/Method`), or None if tracing is disabled."""
        return None

    def hash_wait(self) -> AbstractContextManager[None]:
        """Wrap the wait to hash."""
        return _NOTHING

    def password_hash(self) -> AbstractContextManager[None]:
        """Wrap the hashing."""
        return _NOTHING

    def store_request(self, kind: str) -> AbstractContextManager[None]:
        """Wrap one request to the store."""
        return _NOTHING

    def lookup(self) -> AbstractContextManager[None]:
        """Wrap a look-up, which may share its request with others."""
        return _NOTHING

    def trace_headers(self) -> Mapping[str, str]:
        """Return headers to add to the current request to the store."""
        return {}

    def store_timeout(self, kind: str) -> None:
        """Record that a request to the store, or a group of them, timed out."""

    def batch_sent(self, lookups: int) -> None:
        """Record a shared request and the number of its look-ups."""

    def certificate_loaded(self, expiry: datetime) -> None:
        """Record when the service's TLS certificate expires. May be called on another thread."""

    def sweep_done(self, found: int | None) -> None:
        """Record a sweep and the number of unfinished accounts it found; None if it failed."""


NOOP = Instrumentation()
