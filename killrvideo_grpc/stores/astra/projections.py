"""Projections: data that is derived from an account's document after each change and never read for a decision.

They are the account's row in `users`, its events in `account_events` and `events_by_day`, and, for a deleted account,
the release of its address. A document stays `pending` until they are written, and that of a deleted account for some
minutes more (`account_updates.SETTLING`).
"""

from datetime import datetime
from uuid import UUID

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.changes import Event
from killrvideo_grpc.domain.search import prefixes
from killrvideo_grpc.stores.astra.account_updates import clearing, clearing_mark, has_settled
from killrvideo_grpc.stores.astra.claims import EmailClaims
from killrvideo_grpc.stores.astra.document import (
    is_deleted,
    is_erased,
    read_outbox,
    user_id_of,
)
from killrvideo_grpc.stores.astra.histories import read_state
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, EVENTS_BY_DAY, USERS, DataApi, Document, TableRow

# The partition of events_by_day that lists the days, with a row for each day that may have events.
DAYS = "days"
ROUNDS = 5  # tries; an account that changes even more often stays pending for the sweep


class Projections:
    """Brings projections up to date. Safe to repeat, and to run in several processes at once."""

    def __init__(self, api: DataApi, claims: EmailClaims) -> None:
        self._api = api
        self._claims = claims
        self._listed_days: set[str] = set()

    async def project(self, document: Document, *, ineffective: UUID | None = None, at: datetime | None = None) -> None:
        """Writes the projections of a document that was just read, then clears the document.

        If the account has changed meanwhile, this may have overwritten newer projections with older ones, so it starts
        again with the current document. `ineffective` is the id of an event to skip because its change had no effect.
        `at` defaults to now.
        """
        for _ in range(ROUNDS):
            await self._write(document, ineffective)
            newer = await self._clear(document, at or now())
            if newer is None:
                return
            document = newer

    async def _clear(self, document: Document, at: datetime) -> Document | None:
        """Clears the document. If it has changed since it was read, keeps its mark and returns it, otherwise None."""
        update, mark = clearing(document, at), document.get("pending")
        if mark and has_settled(document, at) and await self._api.update_marked(mark, clearing_mark(update, document)):
            return None
        after = await self._api.update_document(document["_id"], update, image="after")
        return None if after is None or after["version"] == document["version"] else after

    async def _write(self, document: Document, ineffective: UUID | None) -> None:
        user_id, events = user_id_of(document), read_outbox(document)
        if not is_deleted(document):
            await self._api.insert_row(USERS, _row(document))
        else:
            await self._api.delete_row(USERS, {"userid": user_id})
            if claim := document.get("claim"):
                await self._claims.release(claim, user_id)
            if is_erased(document):
                events = []  # any events left are of changes made after the deletion, which had no effect
        for event in events:
            if event.event_id != ineffective:
                await self._api.insert_row(ACCOUNT_EVENTS, _event_row(event))
                day = f"{event.at:%Y-%m-%d}"
                await self._list_day(day, event.at)
                await self._api.insert_row(EVENTS_BY_DAY, {"day": day, **_event_row(event)})

    async def _list_day(self, day: str, at: datetime) -> None:
        if day not in self._listed_days:
            midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
            row = {"day": DAYS, "at": midnight, "event_id": UUID(int=0), "action": day}
            await self._api.insert_row(EVENTS_BY_DAY, row)
            self._listed_days.add(day)


def row_is_current(row: TableRow | None, document: Document) -> bool:
    """Returns whether the row, or its absence (None), agrees with the document."""
    if is_deleted(document):
        return row is None
    if row is None:
        return False
    due = _row(document)
    return all(row[name] == due[name] for name in ("email", "firstname", "lastname", "account_status"))


def _row(document: Document) -> TableRow:
    row = {
        "userid": user_id_of(document),
        "email": document["email"],
        "firstname": document["firstname"],
        "lastname": document["lastname"],
        "account_status": read_state(document).status.value,
        "created_date": document["created_date"],
        "search_terms": prefixes(document["email"], document["firstname"], document["lastname"]),
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
