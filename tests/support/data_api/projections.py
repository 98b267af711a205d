"""Which columns or fields an answer shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.data_api.refusals import Refusal


@dataclass(frozen=True)
class Projection:
    """Either shows what is named and no more, or hides what is named."""

    shows_named: bool
    names: frozenset[str]

    def choose(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are shown."""
        return [name for name in names if (name in self.names) == self.shows_named]


EVERYTHING = Projection(shows_named=False, names=frozenset())


def read_projection(projection: Any) -> Projection:
    """The projection of a find command; absent or empty shows everything. Raises Refusal."""
    if not projection or projection == {"*": True}:  # which 1 equals
        return EVERYTHING
    if not isinstance(projection, dict):
        raise Refusal("PROJECTION", "UNSUPPORTED_PROJECTION_DEFINITION", "a projection is an object")
    if any(value not in (True, False) for value in projection.values()):
        raise Refusal("PROJECTION", "UNSUPPORTED_PROJECTION_PARAM", "a projection shows or hides, by true or false")
    if any("." in name or name.startswith("$") or name == "*" for name in projection):
        raise Refusal("PROJECTION", "UNSUPPORTED_PROJECTION_PARAM", "only whole columns or fields are projected")
    kinds = set(map(bool, projection.values()))
    if len(kinds) > 1:
        raise Refusal("PROJECTION", "UNSUPPORTED_PROJECTION_PARAM", "a projection either shows or hides")
    return Projection(kinds.pop(), frozenset(projection))
