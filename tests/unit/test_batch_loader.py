"""Concurrent look-ups share requests: how many, how long they wait, and how they fail."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.data_api.batch_loader import MAX_KEYS, BatchLoader
from killrvideo_grpc.stores.data_api.concurrency_limit import MAX, MIN, ConcurrencyLimit

pytestmark = pytest.mark.anyio

WAIT = 5.0


class Database:
    """Documents by key, with a `fetch` that tests can hold up and that records its arguments."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.requests: list[set[str]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.seconds: list[float] = []
        self.under_way = self.most_under_way = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.failures: list[Exception] = []

    async def fetch(self, keys: Collection[str], seconds: float) -> dict[str, dict[str, Any]]:
        self.requests.append(set(keys))
        if task := asyncio.current_task():
            self.tasks.append(task)
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


class RecordingLimit(ConcurrencyLimit):
    """Records for each request how many documents were waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[int] = []

    def update(self, seconds: float, waiting: int) -> None:
        self.updates.append(waiting)
        super().update(seconds, waiting)


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
    for _ in range(MIN):
        held += start(reads, uuid4().hex)
        await all_waiting()
    assert len(database.requests) == MIN
    return held


async def all_waiting() -> None:
    """Let new tasks run until they wait: first look-ups, then the requests that these start."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_lone_look_up_leaves_at_once(database: Database, reads: BatchLoader) -> None:
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
    assert database.requests[MIN:] == [set(keys)]


async def test_no_request_is_larger_than_the_limit(database: Database, reads: BatchLoader) -> None:
    await occupy(database, reads)
    keys = [uuid4().hex for _ in range(2 * MAX_KEYS + 50)]
    waiting = start(reads, *keys)
    await all_waiting()
    database.go_on.set()
    assert await asyncio.gather(*waiting) == [None] * len(keys)
    assert max(len(request) for request in database.requests) == MAX_KEYS
    assert set().union(*database.requests) >= set(keys)
    assert database.most_under_way <= MAX


async def test_look_ups_of_returning_callers_share_requests(database: Database, reads: BatchLoader) -> None:
    """Each caller gets an answer, and soon looks up something else."""

    async def caller() -> None:
        for _ in range(10):
            await reads.get(uuid4().hex)

    await asyncio.gather(*(caller() for _ in range(40)))
    # Some look-ups were sent alone. After that, each request takes as many as it can.
    assert len(database.requests) < 200
    assert sum(len(request) for request in database.requests) == 400


async def test_failures_say_nothing_about_how_long_requests_take(database: Database) -> None:
    limit = RecordingLimit()
    reads = BatchLoader(database.fetch, WAIT, limit=limit)
    database.failures = [StoreUnavailable("refused")]
    with pytest.raises(StoreUnavailable):
        await reads.get("a")
    assert limit.updates == []
    await reads.get("a")
    assert limit.updates == [0]


async def test_the_limit_learns_how_many_documents_are_waited_for(database: Database) -> None:
    limit = RecordingLimit()
    reads = BatchLoader(database.fetch, WAIT, limit=limit)
    held = await occupy(database, reads)
    waiting = start(reads, "a", "b", "a")
    await all_waiting()
    database.go_on.set()
    await asyncio.gather(*held, *waiting)
    assert limit.updates == [2, 0, 0]


async def test_cancelled_look_ups_take_no_place_of_others(database: Database, reads: BatchLoader) -> None:
    """Callers gave up while the database didn't answer. Now those who still wait are served."""
    held = await occupy(database, reads)
    given_up_keys = [uuid4().hex for _ in range(2 * MAX_KEYS)]
    given_up = start(reads, *given_up_keys)
    patient = start(reads, *(uuid4().hex for _ in range(50)))
    await all_waiting()
    for look_up in given_up:
        look_up.cancel()
    await all_waiting()
    database.go_on.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*held, *patient)
    assert {key for request in database.requests for key in request}.isdisjoint(given_up_keys)


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
    assert database.requests[MIN:] == [{"a"}]
    assert [task.cancelled() for task in (held[0], same, alone)] == [True] * 3


async def test_a_cancelled_request_leaves_nobody_waiting(database: Database, reads: BatchLoader) -> None:
    held = await occupy(database, reads)
    (waiting,) = start(reads, "a")
    await all_waiting()
    for request in database.tasks:
        request.cancel()
    database.go_on.set()
    for look_up in held:
        with pytest.raises(StoreUnavailable):
            await look_up
    assert await waiting is None


async def test_a_request_has_the_time_that_its_oldest_look_up_has_left(
    database: Database, reads: BatchLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await occupy(database, reads)
    (waiting,) = start(reads, "a")
    await all_waiting()
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + 2)
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
    max_wait, seconds_given = 0.2, []

    async def fetch(keys: Collection[str], seconds: float) -> dict[str, dict[str, Any]]:
        seconds_given.append(seconds)
        await asyncio.sleep(0.005)
        return {key: {} for key in keys}

    reads = BatchLoader(fetch, max_wait)
    give_up_at = asyncio.get_running_loop().time() + 2 * max_wait

    async def call(number: int) -> None:
        while asyncio.get_running_loop().time() < give_up_at:
            assert await reads.get(str(number)) == {}

    await asyncio.gather(*(call(number) for number in range(5 * MAX_KEYS)))
    assert min(seconds_given) >= max_wait / 2
