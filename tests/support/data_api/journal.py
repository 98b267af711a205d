"""The requests that have arrived, for tests to look at and to wait for."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack


@dataclass(frozen=True)
class Request:
    """A request as it arrived, without its headers, and its body out of JSON.

    `keyspace` and `name` (of a table or collection) are None where the path is shorter; `command` is "" where the body
    holds none.
    """

    path: str
    body: Any

    @property
    def below(self) -> list[str]:
        """The parts of the path below the API's version."""
        return self.path.strip("/").split("/")[1:]

    @property
    def keyspace(self) -> str | None:
        return self.below[0] if self.below else None

    @property
    def name(self) -> str | None:
        return self.below[1] if len(self.below) > 1 else None

    @property
    def command(self) -> str:
        return str(next(iter(self.body))) if isinstance(self.body, dict) and len(self.body) == 1 else ""

    @property
    def arguments(self) -> Any:
        """The fields of the command."""
        return self.body[self.command] if self.command else None


class Matching(TypedDict, total=False):
    """What requests must have: a command, a keyspace, the name of a table or collection, or anything else."""

    command: str
    keyspace: str
    name: str
    where: Callable[[Request], bool]


def matcher(**matching: Unpack[Matching]) -> Callable[[Request], bool]:
    """Returns a predicate that is true of requests that have everything that is given."""
    where = matching.pop("where", lambda _: True)
    return lambda request: where(request) and all(getattr(request, name) == value for name, value in matching.items())


class Journal:
    """Requests in the order of their arrival. Each arrival and each end of one wakes those who wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: list[Request] = []

    @property
    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests)

    def clear(self) -> None:
        with self._changed:
            self._requests.clear()

    def add(self, request: Request) -> None:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"not within {timeout} s; arrived: {[r.command for r in self._requests]}")
