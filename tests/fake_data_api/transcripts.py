"""What a real Data API answered, call by call, and whether a fake answers the same."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.fake_data_api.clients import token
from tests.support import fake_data_api
from tests.support.fake_data_api import FakeDataApi

KEYSPACE = "killrvideo"
FOLDER = Path(fake_data_api.__file__).parent
NAMES = ("transcripts", "account-documents", "updates", "account-revisions")
_SHORTENED_LIST = re.compile(r"\(?… (\d+) in all\)?")
_SHORTENED_TEXT = re.compile(r"(.*)… \((\d+) characters\)")

# The requests that are too long for the transcripts.
_LONG_REQUESTS: dict[str, dict[str, Any]] = {
    "accounts find by 101 ids": {"find": {"filter": {"_id": {"$in": [str(uuid4()) for _ in range(101)]}}}},
    "large document (900 kB) is refused or taken": {
        "insertOne": {"document": {"_id": "big", "blob": ["x" * 7000 for _ in range(128)]}}
    },
    "string over 8000 bytes": {"insertOne": {"document": {"_id": "big2", "blob": "x" * 9000}}},
}


# What updates of a row, which the fake doesn't know, had changed.
UPDATED: dict[str, Any] = {
    "userid": "11111111-1111-4111-8111-111111111101",
    "firstname": "Ann",
    "lastname": None,
    "roles": ["creator", "viewer"],
    "last_login_date": "2026-01-02T03:04:05.678000+00:00",
}


@dataclass(frozen=True)
class Call:
    """One call: what it is for, the request, and the answer with its HTTP status."""

    step: str
    path: str
    request: dict[str, Any]
    status: int
    response: dict[str, Any]

    @property
    def is_ordered(self) -> bool:
        """Whether its rows come in an order: that of a clustering key."""
        return self.path.endswith(("/account_events", "/events_by_day"))


def read_calls(name: str) -> list[Call]:
    """Return all calls of a transcript, in the order in which they were made."""
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    calls = [json.loads(line) for line in lines]
    return [Call(**call | {"request": _LONG_REQUESTS.get(call["step"], call["request"])}) for call in calls]


def replay(api: FakeDataApi, calls: list[Call]) -> dict[str, httpx.Response]:
    """Make all calls in their order on an empty fake, and return the answers by step."""
    answers: dict[str, httpx.Response] = {}
    page_states: dict[str, str] = {}
    with httpx.Client(base_url=api.url, verify=False) as client:
        for call in calls:
            add_what_was_there(api, call)
            request = json.dumps(call.request)
            for recorded, given in page_states.items():
                request = request.replace(json.dumps(recorded), json.dumps(given))
            answer = client.post(call.path, content=request, headers=_headers(api, call))
            answers[call.step] = answer
            page_states = dict(zip(_page_state(call.response), _page_state(answer.json()), strict=False))
    return answers


def add_what_was_there(api: FakeDataApi, call: Call) -> None:
    """Add what was added between the recorded calls."""
    if call.step in ("create accounts", "create collection without text search", "create accounts with two indexes"):
        api.put_keyspace(KEYSPACE)
    elif call.step == "table find by key in a list":
        api.put_row(KEYSPACE, "users", UPDATED)
        api.put_row(KEYSPACE, "users", {"userid": "11111111-1111-4111-8111-111111111102", "firstname": "Ghost"})
    elif call.step == "table find, first page":
        add_users(api, 60)
    elif call.step == "search, page 1":
        add_users(api, 120)
    elif call.step == "a day's events, page 1":
        first = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
        for number in range(120):
            at = (first + timedelta(seconds=number)).isoformat()
            event = {"day": "2026-01-02", "at": at, "event_id": str(UUID(int=number)), "detail": "{}"}
            api.put_row(KEYSPACE, "events_by_day", event)


def add_users(api: FakeDataApi, count: int) -> None:
    """Add rows with the search term `page`."""
    for number in range(count):
        row = {"userid": f"00000000-0000-40{number:02x}-8000-000000000000", "search_terms": ["page"]}
        api.put_row(KEYSPACE, "users", row)


def alike(call: Call, given: dict[str, Any]) -> bool:
    """Tells whether an answer is the recorded one, but for ids, texts, page states, and order where there is none."""
    return _alike(call, call.response, given)


def _alike(call: Call, recorded: Any, given: Any, name: str = "") -> bool:
    if isinstance(recorded, dict) and isinstance(given, dict):
        return recorded.keys() == given.keys() and all(
            _alike(call, recorded[inner], given[inner], inner) for inner in recorded
        )
    if isinstance(recorded, list) and isinstance(given, list):
        return _lists_alike(call, recorded, given, name)
    if name == "nextPageState":
        return type(recorded) is type(given)
    return _values_alike(recorded, given)


def _values_alike(recorded: Any, given: Any) -> bool:
    if isinstance(recorded, str) and isinstance(given, str):
        shortened = _SHORTENED_TEXT.fullmatch(recorded)
        if shortened:
            return given.startswith(shortened[1]) and len(given) == int(shortened[2])
        return recorded in (given, "(text)", "(uuid)")
    return type(recorded) is type(given) and bool(recorded == given)


def _lists_alike(call: Call, recorded: list[Any], given: list[Any], name: str) -> bool:
    mark = _SHORTENED_LIST.fullmatch(recorded[-1]) if recorded and isinstance(recorded[-1], str) else None
    if name == "documents" and not call.is_ordered:
        recorded = sorted(recorded, key=lambda row: json.dumps(row, sort_keys=True)) if mark is None else recorded
        given = sorted(given, key=lambda row: json.dumps(row, sort_keys=True))
    if mark is None:
        return len(recorded) == len(given) and all(map(_alike, [call] * len(given), recorded, given))
    if len(given) != int(mark[1]):
        return False
    shown = recorded[:-1]
    if name != "documents" or call.is_ordered:
        return all(map(_alike, [call] * len(shown), shown, given))
    if "projectionSchema" in call.response.get("status", {}):
        # Other rows may be on this page, and all have the same columns.
        return {frozenset(row) for row in given} == {frozenset(row) for row in shown}
    return all(any(_alike(call, document, other) for other in given) for document in shown)


def _page_state(response: dict[str, Any]) -> Iterator[str]:
    state = (response.get("data") or {}).get("nextPageState")
    return iter([state] if state else [])


def _headers(api: FakeDataApi, call: Call) -> dict[str, str]:
    if call.step == "no token":
        return {}
    return {"Token": token(api.username, "wrong" if call.step == "wrong password" else api.password)}
