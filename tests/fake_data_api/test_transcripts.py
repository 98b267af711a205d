"""The fake Data API gives the answers that a real one gave to the same requests."""

import httpx
import pytest

from tests.fake_data_api.transcripts import NAMES, Call, alike, read_calls, replay
from tests.support.fake_data_api import FakeDataApi

TRANSCRIPTS = {name: read_calls(name) for name in NAMES}
CALLS = [pytest.param(name, call, id=call.step) for name, calls in TRANSCRIPTS.items() for call in calls]


@pytest.fixture(scope="module")
def replayed() -> dict[str, dict[str, httpx.Response]]:
    answers = {}
    for name, calls in TRANSCRIPTS.items():
        with FakeDataApi() as api:
            answers[name] = replay(api, calls)
    return answers


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_answers_as_a_real_one_did(name: str, call: Call, replayed: dict[str, dict[str, httpx.Response]]) -> None:
    given = replayed[name][call.step]
    assert given.status_code == call.status
    assert alike(call, given.json()), given.text[:2000]


@pytest.mark.parametrize(
    ("name", "steps", "column", "sizes"),
    [
        ("transcripts", ["table find, first page", "table find, second page"], "userid", [50, 10]),
        ("account-documents", [f"search, page {number}" for number in (1, 2, 3)], "userid", [50, 50, 20]),
        ("account-documents", [f"a day's events, page {number}" for number in (1, 2, 3)], "at", [50, 50, 20]),
    ],
)
def test_the_pages_contain_all_rows(
    name: str, steps: list[str], column: str, sizes: list[int], replayed: dict[str, dict[str, httpx.Response]]
) -> None:
    pages = [replayed[name][step].json()["data"]["documents"] for step in steps]
    assert [len(page) for page in pages] == sizes
    assert len({row[column] for page in pages for row in page}) == sum(sizes)
