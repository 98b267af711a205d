"""Searches and event lists. The tables give ids of accounts; the documents give the accounts."""

import json
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.events import Event, read_action
from killrvideo_grpc.domain.ports import Page
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.stores.astra.document import document_id, read_account, read_outbox
from killrvideo_grpc.stores.astra.projections import DAYS
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, EVENTS_BY_DAY, USERS, DataApi, TableRow

PAGES = 10  # of 50 rows that a search reads at most, because many rows may not match
SEEN_DIGITS = 16  # of a user id: unique within a page of rows

State = str | None  # the Data API's page state; None is the beginning of the table


async def read_accounts(api: DataApi, user_ids: Collection[UUID]) -> dict[UUID, Account]:
    """Return the accounts that exist, by id."""
    documents = await api.find_documents([document_id(user_id) for user_id in user_ids]) if user_ids else {}
    accounts = (read_account(document) for document in documents.values())
    return {account.user_id: account for account in accounts if account}


class _Place(NamedTuple):
    """Where an event stands: the page state of its day in the list of days, its day, and the page state of its row.

    The events of an account have no days.
    """

    days_state: State
    day: str | None
    state: State


class Queries:
    """Lists, page by page. A position holds the Data API's page state and which of its rows were returned."""

    def __init__(self, api: DataApi) -> None:
        self._api = api

    async def search(self, query: Query, size: int, start: str) -> Page[Account]:
        """Return a page of the matching accounts."""
        if query.matches_nothing:
            return Page([])
        # A filter takes one condition, so select by the longest term, then check each account.
        condition = {"search_terms": {"$in": query.terms[:1]}} if query.terms else {}
        found: list[Account] = []
        state, seen = json.loads(start) if start else (None, [])
        for _ in range(PAGES):
            rows, following = await self._api.row_page(USERS, condition, state, columns=("userid",))
            # Rows may have come or gone since this page was last read, so skip by id, not by position.
            left = [row["userid"] for row in rows if row["userid"].hex[:SEEN_DIGITS] not in seen]
            accounts = await read_accounts(self._api, left)
            for position, user_id in enumerate(left):
                account = accounts.get(user_id)
                seen.append(user_id.hex[:SEEN_DIGITS])
                if account and query.matches(account):
                    found.append(account)
                if len(found) == size and position < len(left) - 1:
                    return Page(found, json.dumps([state, seen]))
            if following is None:
                return Page(found)
            state, seen = following, []
            if len(found) == size:
                break
        return Page(found, json.dumps([state, seen]))

    async def events(self, user_id: UUID | None, size: int, start: str) -> Page[Event]:
        """Return a page of events, newest first."""
        *begin, last = json.loads(start) if start else (None, None, None, None)
        place = _Place(*begin)
        rows = self._events_of(user_id, place.state) if user_id else self._events_by_day(place)
        # Merge the events that are still in the outbox.
        pending = await self._pending(user_id) if user_id else []
        events = {event.event_id: (event, place) for event in pending if last is None or _order(event) > _key(last)}
        count = 0
        async for event, its_place in rows:
            if last is None or _order(event) > _key(last):
                events[event.event_id] = (event, its_place)
                count += 1
                if count > size:
                    break
        ordered = sorted(events.values(), key=lambda entry: _order(entry[0]))
        if len(ordered) <= size:
            return Page([event for event, _ in ordered])
        given = ordered[:size]
        place = next((its_place for _, its_place in reversed(given) if its_place is not place), place)
        order, event_id = _order(given[-1][0])
        return Page([event for event, _ in given], json.dumps([*place, [order, str(UUID(int=event_id))]]))

    async def _pending(self, user_id: UUID) -> list[Event]:
        document = await self._api.find_document(document_id(user_id))
        return read_outbox(document) if document else []

    async def _events_of(self, user_id: UUID, start: State) -> AsyncIterator[tuple[Event, _Place]]:
        async for row, state in self._rows(ACCOUNT_EVENTS, {"account": user_id}, start):
            yield _event(row), _Place(None, None, state)

    async def _events_by_day(self, start: _Place) -> AsyncIterator[tuple[Event, _Place]]:
        async for row, days_state in self._rows(EVENTS_BY_DAY, {"day": DAYS}, start.days_state):
            day = f"{row['at']:%Y-%m-%d}"
            if start.day is None or day <= start.day:
                first = start.state if day == start.day else None
                async for event, state in self._rows(EVENTS_BY_DAY, {"day": day}, first):
                    yield _event(event), _Place(days_state, day, state)

    async def _rows(self, table: str, condition: TableRow, state: State) -> AsyncIterator[tuple[TableRow, State]]:
        """Yield rows, each with the page state of its page."""
        while True:
            rows, following = await self._api.row_page(table, condition, state)
            for row in rows:
                yield row, state
            if following is None:
                return
            state = following


def _order(event: Event) -> tuple[int, int]:
    # The clustering order of the tables: newest first, then by id.
    return -_millis(event.at), event.event_id.int


def _key(last: list[Any]) -> tuple[int, int]:
    return last[0], UUID(last[1]).int


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _event(row: TableRow) -> Event:
    texts = {name: row.get(name) or "" for name in ("actor", "reason", "request_id", "before", "after")}
    return Event(
        action=read_action(row["action"]), account=row["account"], at=row["at"], event_id=row["event_id"], **texts
    )
