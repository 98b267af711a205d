import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded, StoreUnavailable
from killrvideo_grpc.stores.joined_reads import MAX_KEYS, JoinedReads

WAIT = 10.0


class Table:
    """Rows by key, behind a `fetch` that a test can hold up and that remembers what it was asked."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Any] = {}
        self.requests: list[set[UUID]] = []
        self.under_way = self.most_under_way = 0
        self.changed = threading.Condition()
        self.go_on = threading.Event()
        self.go_on.set()
        self.failures: list[Exception] = []

    def fetch(self, keys: Iterable[UUID], seconds: float) -> dict[UUID, Any]:
        with self.changed:
            self.requests.append(set(keys))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            failure = self.failures.pop(0) if self.failures else None
            found = {key: self.rows[key] for key in self.requests[-1] if key in self.rows}
            self.changed.notify_all()
        self.go_on.wait(WAIT)
        with self.changed:
            self.under_way -= 1
        if failure:
            raise failure
        return found

    def wait_for_requests(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= number, WAIT)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def reads(table: Table) -> Iterator[JoinedReads]:
    reads = JoinedReads(table.fetch)
    yield reads
    table.go_on.set()
    reads.close()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(300) as callers:
        yield callers


def hold_two(table: Table, reads: JoinedReads, callers: ThreadPoolExecutor) -> "list[Future[Any]]":
    """Keeps both senders busy, so that what comes next has to wait."""
    table.go_on.clear()
    held = []
    for number in (1, 2):
        held.append(callers.submit(reads.get, uuid4(), WAIT))
        table.wait_for_requests(number)
    return held


def wait_until_waiting(reads: JoinedReads, number: int) -> None:
    done = threading.Event()
    while len(reads._waiting) < number:
        done.wait(0.001)


def test_a_lone_look_up_leaves_at_once(table: Table, reads: JoinedReads) -> None:
    key = uuid4()
    table.rows[key] = {"userid": key}
    assert reads.get(key, WAIT) == {"userid": key}
    assert reads.get(uuid4(), WAIT) is None
    assert [len(request) for request in table.requests] == [1, 1]


def test_those_that_wait_share_a_request(table: Table, reads: JoinedReads, callers: ThreadPoolExecutor) -> None:
    hold_two(table, reads, callers)
    keys = [uuid4() for _ in range(40)]
    table.rows.update({key: {"userid": key} for key in keys[:30]})
    waiting = [callers.submit(reads.get, key, WAIT) for key in keys * 2]
    wait_until_waiting(reads, 80)
    table.go_on.set()
    assert [found.result(WAIT) for found in waiting] == [table.rows.get(key) for key in keys * 2]
    assert table.requests[2:] == [set(keys)]


def test_no_request_is_larger_than_the_limit(table: Table, reads: JoinedReads, callers: ThreadPoolExecutor) -> None:
    hold_two(table, reads, callers)
    keys = [uuid4() for _ in range(250)]
    waiting = [callers.submit(reads.get, key, WAIT) for key in keys]
    wait_until_waiting(reads, 250)
    table.go_on.set()
    for found in waiting:
        assert found.result(WAIT) is None
    assert max(len(request) for request in table.requests) == MAX_KEYS
    assert table.most_under_way == 2


def test_a_failure_fails_only_those_in_its_request(
    table: Table, reads: JoinedReads, callers: ThreadPoolExecutor
) -> None:
    table.failures = [StoreUnavailable("first")]
    first, second = hold_two(table, reads, callers)
    third = callers.submit(reads.get, uuid4(), WAIT)
    wait_until_waiting(reads, 1)
    table.go_on.set()
    with pytest.raises(StoreUnavailable):
        first.result(WAIT)
    assert (second.result(WAIT), third.result(WAIT)) == (None, None)


def test_each_has_its_own_time(table: Table, reads: JoinedReads, callers: ThreadPoolExecutor) -> None:
    hold_two(table, reads, callers)
    key = uuid4()
    table.rows[key] = {"userid": key}

    def impatient() -> Any:
        with deadline.within(0.05):
            return reads.get(key, WAIT)

    patient = callers.submit(reads.get, key, WAIT)
    with pytest.raises(DeadlineExceeded):
        callers.submit(impatient).result(WAIT)
    with pytest.raises(StoreUnavailable):
        reads.get(key, 0.05)
    table.go_on.set()
    assert patient.result(WAIT) == {"userid": key}


def test_a_read_sees_every_write_answered_before_it_began(
    table: Table, reads: JoinedReads, callers: ThreadPoolExecutor
) -> None:
    """Each caller writes, then reads what many others read too: a request that had left may not serve it."""
    keys = [uuid4() for _ in range(8)]
    lock = threading.Lock()

    def write_and_read(number: int) -> tuple[int, int]:
        key = keys[number % len(keys)]
        with lock, table.changed:
            version = table.rows.get(key, 0) + 1
            table.rows[key] = version
        return version, reads.get(key, WAIT)  # type: ignore[return-value]

    results = list(callers.map(write_and_read, range(4000)))
    assert all(read >= written for written, read in results)
    assert len(table.requests) < 4000
