"""Hooks through which the service reports what it does. `metrics.py` and `traces.py` implement them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

_NOTHING: AbstractContextManager[None] = nullcontext()


class Observer:
    """Does nothing. Subclasses override the hooks that they need. All hooks are called on the event loop.

    Kinds, methods and reasons come from fixed sets of this service, never from a caller.
    """

    def waits_for_hash(self) -> AbstractContextManager[None]:
        """Wraps the wait for a hashing thread."""
        return _NOTHING

    def hashes(self) -> AbstractContextManager[None]:
        """Wraps the hashing itself."""
        return _NOTHING

    def asks_store(self, kind: str) -> AbstractContextManager[None]:
        """Wraps one request to the store."""
        return _NOTHING

    def looks_up(self) -> AbstractContextManager[None]:
        """Wraps a look-up that may share its request with others, from its start to its answer."""
        return _NOTHING

    def headers(self) -> Mapping[str, str]:
        """Returns headers to add to the current request to the store."""
        return {}

    def timed_out(self, kind: str) -> None:
        """Called when a request to the store, retries included, timed out."""

    def joined(self, look_ups: int) -> None:
        """Called when a shared request is sent, with the number of its look-ups."""

    def swept(self, found: int | None) -> None:
        """Called after a sweep, with the number of unfinished accounts it found, or None if it failed."""

    def refused(self, method: str, reason: str) -> None:
        """Called when a call ends in an error of the contract, with its reason from the error table."""


class Observers(Observer):
    """Forwards to several observers."""

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
