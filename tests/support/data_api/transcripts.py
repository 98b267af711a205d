"""What a real Data API answered, call by call, and what of an answer is the same every time."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.data_api.clients import token
from tests.support.data_api.server import DataApi

KEYSPACE = "killrvideo"
_FILE = Path(__file__).with_name("transcripts.jsonl")
_SHORTENED = re.compile(r"\(… (\d+) in all\)")


@dataclass(frozen=True)
class Call:
    """One call of the transcripts: what it is for, the request, and the answer with its HTTP status."""

    step: str
    path: str
    request: dict[str, Any]
    status: int
    response: dict[str, Any]


def read_calls() -> list[Call]:
    """All calls, in the order in which they were made."""
    return [Call(**json.loads(line)) for line in _FILE.read_text(encoding="utf-8").splitlines()]


def replay(api: DataApi) -> dict[str, httpx.Response]:
    """The answers to all calls, made in their order on an empty stand-in, by step."""
    answers: dict[str, httpx.Response] = {}
    next_page = None
    with httpx.Client(base_url=api.url) as client:
        for call in read_calls():
            if call.step == "table find, first page":
                add_rows_of_pages(api)
            request = _with_page_state(call, next_page)
            answers[call.step] = client.post(call.path, json=request, headers=_headers(api, call))
            next_page = (answers[call.step].json().get("data") or {}).get("nextPageState")
    return answers


def add_rows_of_pages(api: DataApi) -> None:
    """The 60 rows that were inserted before the pages were read."""
    for number in range(60):
        row = {"userid": f"00000000-0000-40{number:02x}-8000-000000000000", "search_terms": ["page"]}
        api.put_row(KEYSPACE, "users", row)


def lasting(response: dict[str, Any]) -> dict[str, Any]:
    """The answer without what may differ: ids, texts, the order of rows, and what a page state is made of.

    A list that the transcripts shortened is counted, and its rows are reduced to the names of their columns.
    """
    return {part: _lasting(part, value) for part, value in response.items()}


def alike(recorded: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether a given answer is what was recorded, but for what may differ."""
    return _countable(lasting(recorded)) == _countable(lasting(given), like=recorded)


def _headers(api: DataApi, call: Call) -> dict[str, str]:
    if call.step == "no token":
        return {}
    return {"Token": token(api.username, "wrong" if call.step == "wrong password" else api.password)}


def _with_page_state(call: Call, page_state: str | None) -> dict[str, Any]:
    """The request, with a page state of the stand-in's own where a real one gave the recorded one."""
    if call.step != "table find, second page":
        return call.request
    return {"find": {**call.request["find"], "options": {"pageState": page_state}}}


def _lasting(name: str, value: Any) -> Any:
    if name in ("errors", "warnings"):
        return [{**error, "id": "(uuid)", "title": "(text)", "message": "(text)"} for error in value]
    if name == "nextPageState":
        return value is not None
    if name == "documents":
        return sorted(value, key=lambda row: json.dumps(row, sort_keys=True))
    if isinstance(value, dict):
        return {inner: _lasting(inner, part) for inner, part in value.items()}
    return value


def _countable(response: dict[str, Any], like: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer with its rows counted where the recorded one is shortened."""
    shortened = _shortened_to(like or response)
    if shortened is None:
        return response
    rows = response["data"]["documents"]
    count = len(rows) if like else shortened
    columns = {name for row in rows if isinstance(row, dict) for name in row}
    return {**response, "data": {**response["data"], "documents": [count, columns]}}


def _shortened_to(response: dict[str, Any]) -> int | None:
    rows = (response.get("data") or {}).get("documents") or []
    marks = [_SHORTENED.fullmatch(row) for row in rows if isinstance(row, str)]
    return int(marks[0][1]) if marks and marks[0] else None
