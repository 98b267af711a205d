"""Projections: what is derived from an account's document and never read for a decision, written after each change.

They are the account's row in `users`, its events in `account_events` and `events_by_day`, and, for a deleted account,
the release of its address. A document is `pending` until all of that is done.
"""

from killrvideo_grpc.domain.changes import Event
from killrvideo_grpc.stores.account_documents import ERASED, ERASED_FIELDS, is_deleted, read_outbox, user_id_of
from killrvideo_grpc.stores.data_api import ACCOUNT_EVENTS, EVENTS_BY_DAY, USERS, DataApi, Document, Row, Update
from killrvideo_grpc.stores.email_claims import EmailClaims

ROUNDS = 5  # an account that changes faster than we write stays pending, and the sweep takes it up


class Projections:
    """Brings projections up to date. Everything here may be repeated, and done by several processes at once."""

    def __init__(self, api: DataApi, claims: EmailClaims) -> None:
        self._api = api
        self._claims = claims

    async def project(self, document: Document) -> None:
        """Writes what derives from the document, which was read a moment ago, and clears its marks.

        If the account changed meanwhile, somebody may have written our older state over a newer one, so the mark is set
        again and the work is repeated with the account as it is then.
        """
        for _ in range(ROUNDS):
            events = read_outbox(document)
            await self._write(document, events)
            before = await self._api.update_document(document["_id"], _clearing(document, events), image="before")
            if before is None or before["version"] == document["version"]:
                return
            after = await self._api.update_document(document["_id"], {"$set": {"pending": True}}, image="after")
            if after is None:
                return
            document = after

    async def _write(self, document: Document, events: list[Event]) -> None:
        user_id = user_id_of(document)
        if not is_deleted(document):
            await self._api.insert_row(USERS, _row(document))
        else:
            await self._api.delete_row(USERS, {"userid": user_id})
            if claim := document.get("releasing"):
                await self._claims.release(claim, user_id)
        for event in events:
            await self._api.insert_row(ACCOUNT_EVENTS, _event_row(event))
            await self._api.insert_row(EVENTS_BY_DAY, {"day": f"{event.at:%Y-%m-%d}", **_event_row(event)})


def _clearing(document: Document, events: list[Event]) -> Update:
    # Only what was written is cleared: an event that came later stays.
    fields = ["pending", *(f"outbox.{event.event_id}" for event in events)]
    if not is_deleted(document):
        return {"$unset": dict.fromkeys(fields, "")}
    # A change that raced with the deletion, and crashed before it could take back what it wrote, may have left traces.
    return {"$set": ERASED, "$unset": dict.fromkeys([*fields, "releasing", *ERASED_FIELDS], "")}


def _row(document: Document) -> Row:
    row = {
        "userid": user_id_of(document),
        "email": document["email"],
        "firstname": document["firstname"],
        "lastname": document["lastname"],
        "account_status": document["status"],
        "created_date": document["created_date"],
    }
    # No date is left out rather than written as null, which would leave a tombstone in Cassandra at each registration.
    return row | {name: document[name] for name in ("last_login_date",) if name in document}


def _event_row(event: Event) -> Row:
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
