"""Reading of collections and tables: filters, projections, and pages."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.support.fake_data_api.errors import Refusal, unsupported_query
from tests.support.fake_data_api.updates import split_path

MOST_IN_VALUES = 100
PAGE_SIZE = 50


@dataclass(frozen=True)
class Entry:
    """A document or a row, which is immutable, and its position in the order of reading."""

    position: list[int]
    content: dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """One condition of a filter."""

    path: str
    operator: str
    operand: Any

    @property
    def values(self) -> list[Any]:
        """The values of `$in` or `$eq`. Raise Refusal for other operators, and for more than 100 values."""
        if self.operator == "$eq":
            return [self.operand]
        if self.operator != "$in":
            raise Refusal("FILTER", "FILTER_UNSUPPORTED_OPERATOR", f"{self.operator} on {self.path} is not known here")
        if not isinstance(self.operand, list) or not 1 <= len(self.operand) <= MOST_IN_VALUES:
            raise Refusal("FILTER", "FILTER_INVALID_EXPRESSION", f"$in takes 1 to {MOST_IN_VALUES} values")
        return self.operand


def read_filter(given: Any) -> list[Condition]:
    """Return the conditions of a filter. Raise Refusal."""
    conditions: list[Condition] = []
    for path, operand in (given or {}).items():
        if path.startswith("$"):
            raise unsupported_query(f"{path} joins conditions, and Apache Cassandra takes one")
        operators = operand if isinstance(operand, dict) else {"$eq": operand}
        conditions.extend(Condition(path, operator, value) for operator, value in operators.items())
    return conditions


def project(document: Mapping[str, Any], projection: Any) -> dict[str, Any]:
    """Return the fields that a projection shows. Raise Refusal.

    `_id` is shown unless hidden by name; showing only `_id` shows everything, as in a real Data API.
    """
    flags = dict(projection or {})
    shows_id = flags.pop("_id", True)
    if set(flags.values()) not in (set(), {True}, {False}):
        raise Refusal("PROJECTION", "UNSUPPORTED_PROJECTION_PARAM", "a projection either shows or hides fields")
    tree: dict[str, Any] = {}
    for path in flags:
        branch = tree
        for name in split_path(path, "PROJECTION"):
            branch = branch.setdefault(name, {})
    shown = _select(document, tree, shows=True in flags.values())
    shown.pop("_id", None)
    return {"_id": document["_id"], **shown} if shows_id and "_id" in document else shown


def _select(document: Mapping[str, Any], tree: Mapping[str, Any], *, shows: bool) -> dict[str, Any]:
    """Return the fields in the tree, whose leaves are empty, or those outside of it."""
    selected = {}
    for name, value in document.items():
        branch = tree.get(name)
        if branch and isinstance(value, Mapping):
            selected[name] = _select(value, branch, shows=shows)
        elif (branch == {}) == shows:
            selected[name] = value
    return selected


def token(key: bytes) -> int:
    """Return the position of a key: fixed, but in no order that a caller could rely on."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=6).digest())


def first(found: Iterable[Entry]) -> dict[str, Any] | None:
    entry = min(found, key=lambda entry: entry.position, default=None)
    return None if entry is None else entry.content


def cut_page(
    found: Iterable[Entry],
    query: list[Any],
    page_state: str | None,
    size: int = PAGE_SIZE,
) -> tuple[list[Entry], str | None]:
    """Return the page that a page state leads to, or the first, and the state that leads to the next.

    A page state is only valid for its `query`. Cassandra doesn't look ahead, so the page after a full one may be empty.
    Raise Refusal.
    """
    entries = sorted(found, key=lambda entry: entry.position)
    if page_state:
        after = _unpack(page_state, query)
        entries = [entry for entry in entries if entry.position > after]
    page = entries[:size]
    if len(page) < size:
        return page, None
    return page, base64.b64encode(json.dumps([query, page[-1].position]).encode()).decode()


def _unpack(page_state: str, query: list[Any]) -> list[int]:
    """Return the position after which the page begins. Raise Refusal."""
    with suppress(ValueError):
        belongs_to, after = json.loads(base64.b64decode(page_state, validate=True))
        if belongs_to == query:
            return list(after)
    # A real one hands it to its database driver, which fails; so the family is SERVER.
    raise Refusal("DATABASE", "UNEXPECTED_DRIVER_ERROR", "this page state does not belong to this query")
