"""What tables with a clustering key rely on: the newest rows first, page by page, and one condition."""

from typing import Any
from uuid import UUID

import pytest

from tests.fake_data_api.clients import Send, refusal
from tests.fake_data_api.conftest import ANN, BOB
from tests.fake_data_api.transcripts import KEYSPACE
from tests.support.fake_data_api import FakeDataApi

EVENTS = {
    "columns": {"account": "uuid", "at": "timestamp", "event_id": "uuid"},
    "primaryKey": {"partitionBy": ["account"], "partitionSort": {"at": -1, "event_id": 1}},
}


@pytest.fixture(autouse=True)
def events(send: Send) -> None:
    send("", createTable={"name": "events", "definition": EVENTS})


def put_event(api: FakeDataApi, account: UUID, second: int, number: int = 0) -> None:
    at = f"2026-01-02T03:{second // 60:02}:{second % 60:02}Z"
    api.put_row(KEYSPACE, "events", {"account": str(account), "at": at, "event_id": str(UUID(int=number))})


def test_pages_are_newest_first_and_what_is_new_does_not_shift_them(api: FakeDataApi, send: Send) -> None:
    for second in range(60):
        put_event(api, ANN, second)
        put_event(api, BOB, second)
    find: dict[str, Any] = {"filter": {"account": str(ANN)}, "projection": {"at": True}}
    first = send("events", find=find)["data"]
    put_event(api, ANN, 100)
    second = send("events", find=find | {"options": {"pageState": first["nextPageState"]}})["data"]
    moments = [row["at"] for page in (first, second) for row in page["documents"]]
    assert moments == [f"2026-01-02T03:00:{second:02}Z" for second in reversed(range(60))]
    assert second["nextPageState"] is None


def test_events_of_one_moment_are_ordered_by_the_rest_of_the_key(api: FakeDataApi, send: Send) -> None:
    for number in (3, 1, 2, 1):
        put_event(api, ANN, 0, number)
    rows = send("events", find={"filter": {"account": str(ANN)}})["data"]["documents"]
    assert [UUID(row["event_id"]).int for row in rows] == [1, 2, 3]


@pytest.mark.parametrize(
    "condition",
    [
        {"account": str(ANN), "at": {"$lt": "2026-01-02T03:00:00Z"}},
        {"account": str(ANN), "at": "2026-01-02T03:00:00Z", "event_id": str(ANN)},
        {"at": "2026-01-02T03:00:00Z"},
    ],
)
def test_cassandra_refuses(send: Send, condition: dict[str, Any]) -> None:
    refused = ("SERVER", "UNSUPPORTED_DATABASE_QUERY")
    assert refusal(send("events", find={"filter": condition})) == refused
    assert refusal(send("events", findOne={"filter": condition})) == refused
