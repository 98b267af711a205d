"""The requests that arrive, and predicates on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack


@dataclass(frozen=True)
class Request:
    """A request: its path, and its parsed body.

    `name` (of a table or collection) is None if the path is shorter; `command` is "" if the body has none.
    """

    path: str
    body: Any

    @property
    def below(self) -> list[str]:
        """The parts of the path below the API's version."""
        return self.path.strip("/").split("/")[1:]

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
    """What requests must have: a command, the name of a table or collection, or anything else."""

    command: str
    name: str
    where: Callable[[Request], bool]


def matcher(**matching: Unpack[Matching]) -> Callable[[Request], bool]:
    """Return a predicate for requests that have everything given."""
    where = matching.pop("where", lambda _: True)
    return lambda request: where(request) and all(getattr(request, name) == value for name, value in matching.items())
