"""Concurrent look-ups share requests: how many, how long they wait, and how they fail."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.data_api import batch_loader
from killrvideo_grpc.stores.data_api.batch_loader import MAX_CONCURRENT_REQUESTS, MAX_KEYS, BatchLoader

pytestmark = pytest.mark.anyio

WAIT = 5.0


class Database:
    """Documents by key, with a `fetch` that tests can hold up and that records its arguments."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.requests: list[set[str]] = []
        self.seconds: list[float] = []
        self.under_way = self.most_under_way = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.failures: list[Exception] = []

    async def fetch(self, keys: Collection[str], seconds: float) -> dict[str, dict[str, Any]]:
        self.requests.append(set(keys))
        self.seconds.append(seconds)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        found = {key: self.documents[key] for key in keys if key in self.documents}
        try:
            await asyncio.sleep(0)
            await self.go_on.wait()
            if self.failures:
                raise self.failures.pop(0)
        finally:
            self.under_way -= 1
        return found


@pytest.fixture
async def database() -> Database:
    return Database()


@pytest.fixture
async def reads(database: Database) -> BatchLoader:
    return BatchLoader(database.fetch, WAIT)


def start(reads: BatchLoader, *keys: str) -> list["asyncio.Task[dict[str, Any] | None]"]:
    return [asyncio.create_task(reads.get(key)) for key in keys]


async def occupy(database: Database, reads: BatchLoader) -> list["asyncio.Task[dict[str, Any] | None]"]:
    """Hold up as many requests as may be in progress."""
    database.go_on.clear()
    held = []
    for _ in range(MAX_CONCURRENT_REQUESTS):
        held += start(reads, uuid4().hex)
        await all_waiting()
    assert len(database.requests) == MAX_CONCURRENT_REQUESTS
    return held


async def all_waiting() -> None:
    """Let new tasks run until they wait: first look-ups, then the requests that these start."""
    for _ in range(3):
        await asyncio.sleep(0)


async def pauses_to_end() -> None:
    """Let pauses of zero seconds end, and the requests after them start."""
    for _ in range(3):
        await all_waiting()


async def test_a_lone_look_up_leaves_at_once(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 3600)
    database.documents["a"] = {"_id": "a"}
    for _ in range(3):
        assert await reads.get("a") == {"_id": "a"}
        assert await reads.get("b") is None
    assert database.requests == [{"a"}, {"b"}] * 3


async def test_waiting_look_ups_share_a_request(database: Database, reads: BatchLoader) -> None:
    await occupy(database, reads)
    keys = [uuid4().hex for _ in range(40)]
    database.documents.update({key: {"_id": key} for key in keys[:30]})
    waiting = start(reads, *keys, *keys)
    await all_waiting()
    database.go_on.set()
    assert await asyncio.gather(*waiting) == [database.documents.get(key) for key in keys * 2]
    assert database.requests[MAX_CONCURRENT_REQUESTS:] == [set(keys)]


async def test_no_request_is_larger_than_the_limit(database: Database, reads: BatchLoader) -> None:
    await occupy(database, reads)
    keys = [uuid4().hex for _ in range(2 * MAX_KEYS + 50)]
    waiting = start(reads, *keys)
    await all_waiting()
    database.go_on.set()
    assert await asyncio.gather(*waiting) == [None] * len(keys)
    assert max(len(request) for request in database.requests) == MAX_KEYS
    assert set().union(*database.requests) >= set(keys)
    assert database.most_under_way == MAX_CONCURRENT_REQUESTS


async def test_look_ups_of_returning_callers_share_requests(database: Database, reads: BatchLoader) -> None:
    """Each caller gets an answer, and soon looks up something else."""

    async def caller() -> None:
        for _ in range(10):
            await reads.get(uuid4().hex)

    await asyncio.gather(*(caller() for _ in range(40)))
    # The first two look-ups were sent alone. After that, each request takes as many as it can.
    assert len(database.requests) < 40
    assert sum(len(request) for request in database.requests) == 400


async def test_a_lone_look_up_some_time_after_many_leaves_at_once(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*start(reads, *(uuid4().hex for _ in range(40))))
    await asyncio.sleep(2 * batch_loader.PEAK_SECONDS)
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 3600)
    async with asyncio.timeout(10):
        assert await reads.get("lone") is None
    assert database.requests[-1] == {"lone"}


async def test_a_lone_look_up_waits_no_longer_than_the_pause(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a request for many keys, a lone look-up waits for others that never come, but only for the pause."""
    monkeypatch.setattr(batch_loader, "MAX_PAUSE_SECONDS", 3600)
    held = await occupy(database, reads)
    many = start(reads, *(uuid4().hex for _ in range(20)))
    await all_waiting()
    database.go_on.set()
    await asyncio.gather(*held, *many)
    async with asyncio.timeout(10):
        assert await reads.get("lone") is None
    assert database.requests[-1] == {"lone"}


async def test_one_small_request_does_not_lower_the_expected_size(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, requests that once got small would stay small."""
    monkeypatch.setattr(batch_loader, "PEAK_SECONDS", 3600)
    held = await occupy(database, reads)
    many = start(reads, *(uuid4().hex for _ in range(20)))
    await all_waiting()
    database.go_on.set()
    await asyncio.gather(*held, *many)
    await reads.get("small")
    assert database.requests[-1] == {"small"}
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 3600)
    keys = [uuid4().hex for _ in range(20 + MAX_CONCURRENT_REQUESTS)]
    first = start(reads, keys[0])
    await all_waiting()
    async with asyncio.timeout(10):
        await asyncio.gather(*first, *start(reads, *keys[1:]))
    assert database.requests[-1] == set(keys)


async def test_a_few_callers_do_not_wait_for_one_another(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 3600)
    monkeypatch.setattr(batch_loader, "PEAK_SECONDS", 3600)
    async with asyncio.timeout(10):
        for _ in range(5):
            await asyncio.gather(*start(reads, "a", "b"))
            await reads.get("a")
    assert database.requests == [{"a"}, {"b"}, {"a"}] * 5


async def test_callers_who_look_up_the_same_document_wait_for_one_another_too(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*start(reads, *["a"] * 20))
    database.requests.clear()
    monkeypatch.setattr(batch_loader, "PEAK_SECONDS", 3600)
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 3600)
    first = start(reads, *["a"] * 19)
    await all_waiting()
    assert database.requests == []
    async with asyncio.timeout(10):
        await asyncio.gather(*first, *start(reads, "a"))
    assert database.requests == [{"a"}]


async def look_up_beside_a_slow_request(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch, keys: str
) -> list["asyncio.Task[dict[str, Any] | None]"]:
    """Have many look-ups answered, hold up a request, and start others. Return all that are left."""
    await asyncio.gather(*start(reads, *(uuid4().hex for _ in range(20))))
    monkeypatch.setattr(batch_loader, "PEAK_SECONDS", 3600)
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 0)
    database.requests.clear()
    database.go_on.clear()
    slow = start(reads, "slow")
    await pauses_to_end()
    later = start(reads, *keys)
    await pauses_to_end()
    return slow + later


async def test_while_a_request_is_under_way_look_ups_wait_for_its_callers(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loader, "MAX_PAUSE_SECONDS", 3600)
    look_ups = await look_up_beside_a_slow_request(database, reads, monkeypatch, "abc")
    assert database.requests == [{"slow"}]
    database.go_on.set()
    await asyncio.gather(*look_ups)
    assert database.requests == [{"slow"}, set("abc")]


async def test_look_ups_do_not_wait_long_for_a_slow_request(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loader, "MAX_PAUSE_SECONDS", 0)
    look_ups = await look_up_beside_a_slow_request(database, reads, monkeypatch, "a")
    assert database.requests == [{"slow"}, {"a"}]
    database.go_on.set()
    await asyncio.gather(*look_ups)


async def arrive_one_by_one(database: Database, reads: BatchLoader, keys: str = "abcdefgh") -> list[set[str]]:
    """Have many look-ups answered, then start others one by one. Return the requests of the latter."""
    held = await occupy(database, reads)
    many = start(reads, *(uuid4().hex for _ in range(20)))
    await all_waiting()
    database.go_on.set()
    await asyncio.gather(*held, *many)
    database.requests.clear()
    look_ups = []
    for key in keys:
        look_ups += start(reads, key)
        await asyncio.sleep(0)
    await asyncio.gather(*look_ups)
    return database.requests


@pytest.mark.parametrize("keys", ["abcdefgh", "aaaaaaaa"])
async def test_a_request_waits_while_look_ups_keep_coming(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    monkeypatch.setattr(batch_loader, "PEAK_SECONDS", 3600)
    monkeypatch.setattr(batch_loader, "MAX_PAUSE_SECONDS", 3600)
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 0)
    assert await arrive_one_by_one(database, reads, keys) == [set(keys)]


async def test_the_wait_for_look_ups_that_keep_coming_is_bounded(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loader, "PEAK_SECONDS", 3600)
    monkeypatch.setattr(batch_loader, "MAX_PAUSE_SECONDS", 0)
    monkeypatch.setattr(batch_loader, "PAUSE_SECONDS", 0)
    assert "h" not in (await arrive_one_by_one(database, reads))[0]


async def test_cancelled_look_ups_take_no_place_of_others(database: Database, reads: BatchLoader) -> None:
    """Callers gave up while the database didn't answer. Now those who still wait are served."""
    held = await occupy(database, reads)
    given_up = start(reads, *(uuid4().hex for _ in range(2 * MAX_KEYS)))
    patient = start(reads, *(uuid4().hex for _ in range(50)))
    await all_waiting()
    for look_up in given_up:
        look_up.cancel()
    await all_waiting()
    database.go_on.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*held, *patient)
    assert reads._present == 0


async def test_a_look_up_never_joins_a_request_that_has_left(database: Database, reads: BatchLoader) -> None:
    database.go_on.clear()
    (early,) = start(reads, "a")
    await all_waiting()
    database.documents["a"] = {"_id": "a"}  # a write that is answered before the next look-up begins
    (late,) = start(reads, "a")
    await all_waiting()
    database.go_on.set()
    assert await early is None
    assert await late == {"_id": "a"}


async def test_a_failure_fails_only_the_look_ups_in_its_request(database: Database, reads: BatchLoader) -> None:
    database.failures = [StoreUnavailable("first")]
    first, second = await occupy(database, reads)
    (third,) = start(reads, uuid4().hex)
    await all_waiting()
    database.go_on.set()
    with pytest.raises(StoreUnavailable):
        await first
    assert (await second, await third) == (None, None)


async def test_a_cancelled_look_up_disturbs_no_other(database: Database, reads: BatchLoader) -> None:
    held = await occupy(database, reads)
    database.documents["a"] = {"_id": "a"}
    same, alone, patient = start(reads, "a", "b", "a")
    await all_waiting()
    for cancelled in (held[0], same, alone):  # one whose request was already sent, and two that are waiting
        cancelled.cancel()
    await all_waiting()
    database.go_on.set()
    assert await patient == {"_id": "a"}
    assert await held[1] is None
    assert database.requests[MAX_CONCURRENT_REQUESTS:] == [{"a"}]
    assert [task.cancelled() for task in (held[0], same, alone)] == [True] * 3


async def test_a_cancelled_request_leaves_nobody_waiting(database: Database, reads: BatchLoader) -> None:
    held = await occupy(database, reads)
    (waiting,) = start(reads, "a")
    await all_waiting()
    for request in reads._requests:
        request.cancel()
    database.go_on.set()
    for look_up in held:
        with pytest.raises(StoreUnavailable):
            await look_up
    assert await waiting is None


async def test_a_request_has_the_time_that_its_oldest_look_up_has_left(database: Database, reads: BatchLoader) -> None:
    await occupy(database, reads)
    (waiting,) = start(reads, "a")
    await all_waiting()
    reads._since["a"] -= 2  # as if it had waited for two seconds
    database.go_on.set()
    await waiting
    assert WAIT - 3 < database.seconds[-1] <= WAIT - 2


async def test_closing_fails_all_look_ups(database: Database, reads: BatchLoader) -> None:
    look_ups = [*await occupy(database, reads), *start(reads, "a", "b")]
    await all_waiting()
    reads.close()
    for look_up in look_ups:
        with pytest.raises(StoreUnavailable):
            await look_up
    assert database.under_way == 0


async def test_many_callers_are_served_for_longer_than_a_look_up_may_take() -> None:
    """More look-ups than fit into a request are always waiting, so the queue is never empty."""
    max_wait, seconds_given = 0.02, []

    async def fetch(keys: Collection[str], seconds: float) -> dict[str, dict[str, Any]]:
        seconds_given.append(seconds)
        await asyncio.sleep(0.005)
        return {key: {} for key in keys}

    reads = BatchLoader(fetch, max_wait)

    async def call(number: int) -> None:
        while len(seconds_given) < 40:  # in 0.1 seconds, or more
            assert await reads.get(str(number)) == {}

    await asyncio.gather(*(call(number) for number in range(5 * MAX_KEYS)))
    assert min(seconds_given) >= max_wait / 2
