"""What those who watch the service are told. `metrics.py` and `traces.py` have observers that listen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

_NOTHING: AbstractContextManager[None] = nullcontext()


class Observer:
    """Hears nothing. Whoever listens overrides what it needs; all of it is called on the event loop.

    Names, kinds, methods and reasons are ours, never a caller's.
    """

    def waits_for_hash(self) -> AbstractContextManager[None]:
        """Goes around the wait for a thread that hashes."""
        return _NOTHING

    def hashes(self) -> AbstractContextManager[None]:
        """Goes around the hashing itself."""
        return _NOTHING

    def asks_store(self, kind: str) -> AbstractContextManager[None]:
        """Goes around one request to the store."""
        return _NOTHING

    def looks_up(self) -> AbstractContextManager[None]:
        """Goes around a look-up that shares its request with others, and the wait for that request."""
        return _NOTHING

    def headers(self) -> Mapping[str, str]:
        """Returns headers for the request to the store that is under way."""
        return {}

    def timed_out(self, kind: str) -> None:
        """Hears that a request to the store, with its repetitions, took too long."""

    def joined(self, look_ups: int) -> None:
        """Hears how many look-ups share a request that leaves."""

    def swept(self, found: int | None) -> None:
        """Hears how many unfinished accounts a sweep found; None: it failed."""

    def refused(self, method: str, reason: str) -> None:
        """Hears the reason with which a call was refused, as the error table has it."""


class Observers(Observer):
    """Passes everything on to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def waits_for_hash(self) -> AbstractContextManager[None]:
        return _around([observer.waits_for_hash() for observer in self._observers])

    def hashes(self) -> AbstractContextManager[None]:
        return _around([observer.hashes() for observer in self._observers])

    def asks_store(self, kind: str) -> AbstractContextManager[None]:
        return _around([observer.asks_store(kind) for observer in self._observers])

    def looks_up(self) -> AbstractContextManager[None]:
        return _around([observer.looks_up() for observer in self._observers])

    def headers(self) -> Mapping[str, str]:
        return {name: value for observer in self._observers for name, value in observer.headers().items()}

    def timed_out(self, kind: str) -> None:
        for observer in self._observers:
            observer.timed_out(kind)

    def joined(self, look_ups: int) -> None:
        for observer in self._observers:
            observer.joined(look_ups)

    def swept(self, found: int | None) -> None:
        for observer in self._observers:
            observer.swept(found)

    def refused(self, method: str, reason: str) -> None:
        for observer in self._observers:
            observer.refused(method, reason)


UNOBSERVED = Observer()


@contextmanager
def _around(managers: Sequence[AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for manager in managers:
            stack.enter_context(manager)
        yield
