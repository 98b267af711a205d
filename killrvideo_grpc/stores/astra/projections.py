"""Projections: rows that are derived from an account document after a change, and never read for a decision.

They are the row in `users` and the events in `account_events` and `events_by_day`. With them, the address of a deleted
account is freed, and an active moderator is listed in the index.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from killrvideo_grpc.domain.events import Event
from killrvideo_grpc.domain.search import prefixes
from killrvideo_grpc.stores.astra.claims import Claims
from killrvideo_grpc.stores.astra.document import (
    PROJECT,
    PROJECT_TWICE,
    is_active_moderator,
    is_deleted,
    projected,
    read_outbox,
    settled,
    user_id_of,
)
from killrvideo_grpc.stores.astra.moderator_index import ModeratorIndex
from killrvideo_grpc.stores.astra.revisions import Locks, until_written, write
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, EVENTS_BY_DAY, USERS, DataApi, Document, TableRow

# The partition of events_by_day that lists the days, with a row at midnight of each day that may have events.
DAYS = "days"
TRIES = 5  # an account that changes even more often is projected by those changes, or by a sweep

_NOT_WRITTEN: Any = object()


class Projections:
    """Brings projections up to date."""

    def __init__(self, api: DataApi, locks: Locks, claims: Claims, index: ModeratorIndex) -> None:
        self._api = api
        self._locks = locks
        self._claims = claims
        self._index = index
        self._listed_days: set[str] = set()

    async def project(self, document: Document) -> None:
        """Write the projections of a document as it was just read or written, and clear its outbox.

        If the account has changed meanwhile, this may have overwritten a newer row, and starts again.
        """
        known: Document | None = document
        lock = self._locks.of(document["_id"])
        written = _NOT_WRITTEN

        async def step() -> bool | None:
            nonlocal known, written
            current, known = known or await self._api.find_document(document["_id"]), None
            if current is None:
                return True
            is_current = written is _NOT_WRITTEN or written == row_of(current)
            if is_current and current.get("pending") not in (PROJECT, PROJECT_TWICE):
                return True
            written = await self._write(current)
            is_contended = lock.locked()
            async with lock:  # changes of this process that wait come first, and are projected together
                return (not is_contended and await write(self._api, current, projected(current))) or None

        await until_written(step, TRIES)

    async def settle(self, document: Document) -> None:
        """Write the row once more, when no older one can arrive late."""
        await self._write_row(document)
        await write(self._api, document, settled(document))

    async def _write(self, document: Document) -> TableRow | None:
        row = await self._write_row(document)
        user_id = user_id_of(document)
        if is_deleted(document):
            if "claim" in document:
                await self._claims.release(document["claim"], user_id)
        elif is_active_moderator(document):
            await self._index.settle(user_id)
        for event in read_outbox(document):
            await self._api.insert_row(ACCOUNT_EVENTS, _event_row(event))
            day = f"{event.at:%Y-%m-%d}"
            await self._list_day(day, event.at)
            await self._api.insert_row(EVENTS_BY_DAY, {"day": day, **_event_row(event)})
        return row

    async def _write_row(self, document: Document) -> TableRow | None:
        row = row_of(document)
        if row is None:
            await self._api.delete_row(USERS, {"userid": user_id_of(document)})
        else:
            await self._api.insert_row(USERS, row)
        return row

    async def _list_day(self, day: str, at: datetime) -> None:
        if day not in self._listed_days:
            midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
            await self._api.insert_row(EVENTS_BY_DAY, {"day": DAYS, "at": midnight, "event_id": UUID(int=0)})
            self._listed_days.add(day)


def row_of(document: Document) -> TableRow | None:
    """Return the account's row in `users`; None for a deleted account."""
    if is_deleted(document):
        return None
    names = ("email", "firstname", "lastname")
    row = {
        "userid": user_id_of(document),
        **{name: document[name] for name in names},
        "account_status": document["status"],
        "created_date": document["created_date"],
        "search_terms": prefixes(*(document[name] for name in names)),
    }
    # A missing date is left out, because writing null would create a Cassandra tombstone for every registration.
    return row | {name: document[name] for name in ("last_login_date",) if name in document}


def _event_row(event: Event) -> TableRow:
    return {
        "account": event.account,
        "at": event.at,
        "event_id": event.event_id,
        "action": event.action.value,
        "actor": event.actor,
        "reason": event.reason,
        "request_id": event.request_id,
        "before": event.before,
        "after": event.after,
    }
