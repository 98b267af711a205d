"""Projections: rows that are derived from an account document, and never read for a decision.

They are the row in `users` and the events in `account_events` and `events_by_day`. Projecting also frees the address of
a deleted account, and lists an active moderator in the index.
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
from killrvideo_grpc.stores.astra.revisions import DocumentLocks, until_written, write
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, EVENTS_BY_DAY, USERS, DataApi, Document, TableRow

# The partition of events_by_day that has a row, at midnight, for each day that may have events.
DAYS = "days"
TRIES = 5  # after which later changes, or a sweep, project the account

_NOT_WRITTEN: Any = object()


class Projections:
    """Brings projections up to date."""

    def __init__(self, api: DataApi, locks: DocumentLocks, claims: Claims, index: ModeratorIndex) -> None:
        self._api = api
        self._locks = locks
        self._claims = claims
        self._index = index
        self._listed_days: set[str] = set()

    async def project(self, key: str, document: Document | None = None) -> None:
        """Write the projections of an account, and clear its outbox. `document`, as just written, saves a read.

        Changes of this process under way come first, and are projected together.
        """
        lock = self._locks.of(key)
        known = None if lock.locked() else document
        async with lock:
            lock.latest = None  # projecting writes a newer revision
            await self._project(key, known)

    async def settle(self, document: Document) -> None:
        """Write the row again, now that no older one can arrive."""
        row = await self._write_row(document)
        if not await write(self._api, document, settled(document)):
            await self._project(document["_id"], written=row)

    async def _project(self, key: str, known: Document | None = None, written: Any = _NOT_WRITTEN) -> None:
        """Write the projections until they agree with the account. `written` is the last row written."""

        async def step() -> bool | None:
            nonlocal known, written
            document, known = known or await self._api.find_document(key), None
            if document is None:
                return True
            is_row_current = written is _NOT_WRITTEN or written == row_of(document)
            if is_row_current and document.get("pending") not in (PROJECT, PROJECT_TWICE):
                return True
            written = await self._write(document)
            return await write(self._api, document, projected(document)) or None

        await until_written(step, TRIES)

    async def _write(self, document: Document) -> TableRow | None:
        row = await self._write_row(document)
        user_id = user_id_of(document)
        if is_deleted(document):
            if "claim" in document:
                await self._claims.release(document["claim"], user_id)
        elif is_active_moderator(document):
            await self._index.reconcile(user_id)
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
    # Without a missing date: null would create a tombstone for every registration.
    return row | {name: document[name] for name in ("last_login_date",) if name in document}


def _event_row(event: Event) -> TableRow:
    return {
        "account": event.account,
        "at": event.at,
        "event_id": event.event_id,
        "action": str(event.action),
        "actor": event.actor,
        "reason": event.reason,
        "request_id": event.request_id,
        "before": event.before,
        "after": event.after,
    }
