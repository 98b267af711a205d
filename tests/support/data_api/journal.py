"""What has arrived, for tests to look at and to wait for."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Predicate = Callable[["Request"], bool]


@dataclass(frozen=True)
class Request:
    """A request as it arrived, without its headers: none of them is kept.

    `keyspace` and `name` (of a table or collection) are None where the path does not go so far, `command` is "" where
    the body is not one, and `body` is the whole body out of JSON.
    """

    number: int
    connection: int
    path: str
    keyspace: str | None
    name: str | None
    command: str
    body: Any

    @property
    def arguments(self) -> Any:
        """What the command got: `body` without the command's name around it."""
        return self.body[self.command] if self.command else None


def matcher(
    *,
    command: str | None = None,
    keyspace: str | None = None,
    name: str | None = None,
    where: Predicate | None = None,
) -> Predicate:
    """True of a request that has everything that is given."""

    def matches(request: Request) -> bool:
        wanted = ((command, request.command), (keyspace, request.keyspace), (name, request.name))
        return all(one in (None, other) for one, other in wanted) and (where is None or where(request))

    return matches


class Journal:
    """Requests in the order of their arrival; every arrival and every end of one wakes those who wait."""

    def __init__(self, *, keeps_requests: bool) -> None:
        self._changed = threading.Condition()
        self._keeps_requests = keeps_requests
        self._requests: list[Request] = []
        self._number = 0

    @property
    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests)

    def reset(self) -> None:
        with self._changed:
            self._requests.clear()

    def arrived(self, connection: int, path: str, body: Any) -> Request:
        """Takes down a request before anything is done about it."""
        parts = path.strip("/").split("/")[1:]
        keyspace, name = [*parts, None, None][:2]
        command = next(iter(body)) if isinstance(body, dict) and len(body) == 1 else ""
        with self._changed:
            self._number += 1
            request = Request(self._number, connection, path, keyspace, name, command, body)
            if self._keeps_requests:
                self._requests.append(request)
            self._changed.notify_all()
        return request

    def changed(self) -> None:
        """Something else has happened that may be waited for."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, matches: Predicate, count: int, timeout: float) -> list[Request]:
        """The requests that match, as soon as there are so many. Raises TimeoutError."""
        found: list[Request] = []

        def enough() -> bool:
            found[:] = [request for request in self._requests if matches(request)]
            return len(found) >= count

        self.wait_until(enough, timeout)
        return found

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Asks again whenever a request has arrived or ended. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"not within {timeout} s; arrived: {[r.command for r in self._requests]}")
