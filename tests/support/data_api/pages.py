"""Pages of an answer, in the order of hashed keys that Cassandra has, and the opaque states that lead on."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tests.support.data_api.refusals import Refusal

PAGE_SIZE = 50
_SECRET = secrets.token_bytes(16)
_SEAL_SIZE = 8

Position = tuple[int, str]


class Placed(Protocol):
    """A row or document, which has its place by the hash of its key."""

    @property
    def position(self) -> Position: ...


PlacedT = TypeVar("PlacedT", bound=Placed)


@dataclass(frozen=True)
class Page(Generic[PlacedT]):
    entries: list[PlacedT]
    next_state: str | None


def position_of(key: str) -> Position:
    """Where the entry of this key stands: the same on every run, and in no order that a caller could rely on."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest()), key


def cut_page(
    entries: Iterable[PlacedT], query: str, options: dict[str, Any], keys: Iterable[str] | None = None
) -> Page[PlacedT]:
    """One page of the entries that a query found; `keys` are those that it asked for, if it named them.

    Options: `limit` (of the whole query, over all its pages) and `pageState`. Cassandra does not look ahead: a full
    page leads on, to an empty one perhaps, unless the limit is reached or no key is left to be looked up (which is
    how its pagers for a partition range and for several partitions go about it). Raises Refusal.
    """
    after, left = _resume(query, options)
    rest = sorted((entry for entry in entries if after is None or entry.position > after), key=_position)
    page = rest[: PAGE_SIZE if left is None else min(PAGE_SIZE, left)]
    left = None if left is None else left - len(page)
    leads_on = len(page) == PAGE_SIZE and left != 0
    if leads_on and keys is not None:
        leads_on = any(position_of(key) > page[-1].position for key in keys)
    return Page(page, _seal(query, page[-1].position, left) if leads_on else None)


def first(entries: Iterable[PlacedT]) -> PlacedT | None:
    """The one that findOne answers of several."""
    return min(entries, key=_position, default=None)


def _position(entry: Placed) -> Position:
    return entry.position


def _resume(query: str, options: dict[str, Any]) -> tuple[Position | None, int | None]:
    limit = options.get("limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", "limit should be greater than 0")
    state = options.get("pageState")
    return _unseal(query, state) if state else (None, limit)


def _seal(query: str, position: Position, left: int | None) -> str:
    inside = json.dumps([*position, left]).encode()
    return base64.b64encode(_mac(query, inside) + inside).decode()


def _unseal(query: str, state: Any) -> tuple[Position, int | None]:
    try:
        sealed = base64.b64decode(state, validate=True)
    except (binascii.Error, TypeError, ValueError):
        sealed = b""
    mac, inside = sealed[:_SEAL_SIZE], sealed[_SEAL_SIZE:]
    if not hmac.compare_digest(mac, _mac(query, inside)):
        # A real API hands it to the driver, which fails: family SERVER, although the caller's bytes are at fault.
        raise Refusal("DATABASE", "UNEXPECTED_DRIVER_ERROR", "the page state is none of this query")
    place, key, left = json.loads(inside)
    return (place, key), left


def _mac(query: str, inside: bytes) -> bytes:
    return hmac.digest(_SECRET, query.encode() + b"\0" + inside, "sha256")[:_SEAL_SIZE]
