"""Pages of an answer, and the opaque page states that lead from one to the next."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.data_api.errors import Refusal

PAGE_SIZE = 50
_SECRET = secrets.token_bytes(16)
_SIGNATURE_SIZE = 8


@dataclass(frozen=True)
class Entry:
    """A document or a row, which is replaced and never changed, and its position in the order of reading."""

    position: list[Any]
    content: dict[str, Any]
    inserted: bool = True  # by an INSERT: such a row stays when its last cell goes, and one that UPDATE made does not


def token(key: str) -> int:
    """Returns where a key stands: always in the same place, and in no order that a caller could rely on."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest())


def ordered(found: Iterable[Entry], *, backwards: bool = False) -> list[Entry]:
    return sorted(found, key=lambda entry: entry.position, reverse=backwards)


def cut_page(
    found: Iterable[Entry],
    query: str,
    options: dict[str, Any],
    *,
    size: int = PAGE_SIZE,
    last: list[Any] | None = None,
    backwards: bool = False,
) -> tuple[list[Entry], str | None]:
    """Returns the page that the options `limit` and `pageState` ask for, and the state that leads to the next.

    Cassandra doesn't look ahead, so a full page leads on, to an empty one perhaps; unless the limit, which counts all
    pages together, is reached, or nothing can follow because this is the `last` position that the query asks for.
    """
    left = options.get("limit")
    if left is not None and (not isinstance(left, int) or isinstance(left, bool) or left < 1):
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", "limit must be greater than 0")
    entries = ordered(found, backwards=backwards)
    if options.get("pageState"):
        after, left = _unpack(options["pageState"], query)
        entries = [entry for entry in entries if (entry.position > after) != backwards and entry.position != after]
    page = entries[: size if left is None else min(size, left)]
    left = None if left is None else left - len(page)
    if len(page) < size or left == 0 or page[-1].position == last:
        return page, None
    return page, _pack(query, page[-1].position, left)


def _pack(query: str, position: list[Any], left: int | None) -> str:
    place = json.dumps([position, left]).encode()
    return base64.b64encode(_signature(query, place) + place).decode()


def _unpack(state: Any, query: str) -> tuple[list[Any], int | None]:
    try:
        packed = base64.b64decode(state, validate=True)
    except (TypeError, ValueError):
        packed = b""
    signature, place = packed[:_SIGNATURE_SIZE], packed[_SIGNATURE_SIZE:]
    if signature != _signature(query, place):
        # A real one hands it to its database driver, which fails; so the family is SERVER.
        raise Refusal("DATABASE", "UNEXPECTED_DRIVER_ERROR", "this page state does not belong to this query")
    position, left = json.loads(place)
    return position, left


def _signature(query: str, place: bytes) -> bytes:
    return hmac.digest(_SECRET, query.encode() + b"\0" + place, "sha256")[:_SIGNATURE_SIZE]
