"""The SQLite store's writer: order, a clean shutdown, and never blocking the event loop."""

import asyncio
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from threading import Event

import pytest
from structlog.testing import capture_logs

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import Delete, Rename
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.stores.sqlite import connection_thread, writes
from killrvideo_grpc.stores.sqlite.file import transaction
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.support.accounts import HASH, a_cause, an_account

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "killrvideo.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    await store.close()


@pytest.fixture
def holder(path: Path, store: SqliteStore) -> Iterator[sqlite3.Connection]:
    """A connection that holds the file's write lock, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


class SlowWrite:
    """Registers an account on the writer's thread once `go_on` is set."""

    def __init__(self) -> None:
        self.account = an_account()
        self._has_begun, self.go_on = Event(), Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self._has_begun.set()
        assert self.go_on.wait(10)
        writes.register(connection, self.account, HASH, a_cause(self.account))

    async def begin(self, store: SqliteStore) -> "asyncio.Task[None]":
        task = asyncio.create_task(store._writer.write(self))
        assert await asyncio.to_thread(self._has_begun.wait, 10)
        return task


async def test_what_was_deleted_is_in_no_file(path: Path, store: SqliteStore) -> None:
    account = an_account(first_name="Plantedfirst")
    await store.register(account, HASH, a_cause(account))
    assert b"Plantedfirst" in _files(path)
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    assert b"Plantedfirst" not in _files(path)


async def test_what_was_deleted_while_another_process_reads_is_in_no_file_after_a_sweep(
    path: Path, store: SqliteStore
) -> None:
    account = an_account(first_name="Plantedfirst")
    await store.register(account, HASH, a_cause(account))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM accounts").fetchall()
        await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
        assert await store.get(account.user_id) is None
        assert b"Plantedfirst" in _files(path)
    await store.sweep()
    assert b"Plantedfirst" not in _files(path)


def _files(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_a_search_selects_its_candidates_once(store: SqliteStore) -> None:
    """Selecting them again for each hundred would take as long again each time, as all ids of a term are collected."""
    accounts = [an_account(f"ann.{number}@example.org") for number in range(250)]
    for account in accounts:
        await store.register(account, HASH, a_cause(account))
    statements: list[str] = []
    store._searcher._connection.set_trace_callback(statements.append)
    page = await store.search(Query.parse("ann.249@example.org"), 20)
    assert page.items == [accounts[249]]
    assert sum("search_terms" in statement for statement in statements) == 1


async def test_a_search_leaves_out_an_account_that_is_deleted_meanwhile(path: Path, store: SqliteStore) -> None:
    account, gone = an_account("ann.1@example.org"), an_account("ann.2@example.org")
    for each in (account, gone):
        await store.register(each, HASH, a_cause(each))

    def delete(statement: str) -> None:
        if "json_each" in statement:  # the candidates are selected, and about to be read
            with closing(sqlite3.connect(path)) as other, other:
                other.execute("DELETE FROM accounts WHERE userid = ?", (str(gone.user_id),))

    store._searcher._connection.set_trace_callback(delete)
    assert (await store.search(Query.parse("ann"), 20)).items == [account]


async def test_a_closed_store_answers_nothing_and_writes_nothing(path: Path) -> None:
    store = SqliteStore(path)
    account = await _register(store)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await _register(store)
    with pytest.raises(StoreUnavailable):
        await store.get(account.user_id)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    assert _user_ids(path) == {str(account.user_id)}


async def test_closing_waits_for_the_write_under_way_and_refuses_the_rest(path: Path, store: SqliteStore) -> None:
    slow = SlowWrite()
    under_way = await slow.begin(store)
    queued = [asyncio.create_task(_register(store)) for _ in range(3)]
    closing_store = asyncio.create_task(store.close())
    while not queued[-1].done():  # until the store refuses writes at once
        queued.append(asyncio.create_task(_register(store)))
        await asyncio.wait(queued[-1:], timeout=0.01)
    assert not closing_store.done()
    slow.go_on.set()
    await closing_store
    await under_way
    outcomes = await asyncio.gather(*queued, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert _user_ids(path) == {str(slow.account.user_id)}


async def test_a_write_that_waits_for_a_lock_outlives_the_close_of_its_store(
    path: Path, store: SqliteStore, holder: sqlite3.Connection
) -> None:
    """SQLite can crash the process if a connection is closed while it runs a statement."""
    writes = [asyncio.create_task(_register(store)) for _ in range(4)]
    await asyncio.wait(writes, timeout=0.2)  # none can end, and by then the first one waits for the lock
    closing_store = asyncio.create_task(store.close())
    await asyncio.sleep(0)  # let the closing begin
    holder.execute("ROLLBACK")
    await closing_store
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert _user_ids(path) == {str(account.user_id) for account in done if isinstance(account, Account)}
    assert {type(outcome) for outcome in done} <= {Account, StoreUnavailable}


async def test_a_write_whose_caller_left_the_queue_never_runs(path: Path, store: SqliteStore) -> None:
    slow = SlowWrite()
    under_way = await slow.begin(store)
    left, stayed = [asyncio.create_task(_register(store)) for _ in range(2)]
    await asyncio.sleep(0)  # let both queue
    left.cancel()
    await asyncio.wait([left])
    slow.go_on.set()
    await under_way
    assert _user_ids(path) >= {str(slow.account.user_id)}
    kept = await stayed
    assert _user_ids(path) == {str(slow.account.user_id), str(kept.user_id)}


async def test_a_write_whose_caller_leaves_is_finished(path: Path, store: SqliteStore) -> None:
    slow = SlowWrite()
    under_way = await slow.begin(store)
    under_way.cancel()
    await asyncio.wait([under_way], timeout=10)
    assert under_way.cancelled()  # at once, before the write is done
    slow.go_on.set()
    await store.close()
    assert _user_ids(path) == {str(slow.account.user_id)}


async def test_a_write_that_waits_for_a_lock_is_dropped_if_its_caller_leaves(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins = Event()

    def noted(connection: sqlite3.Connection, begin: str) -> AbstractContextManager[None]:
        begins.set()
        return transaction(connection, begin)

    monkeypatch.setattr(connection_thread, "transaction", noted)
    with capture_logs() as logged, closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(_register(store))
        assert await asyncio.to_thread(begins.wait, 10)
        waiting.cancel()
        await asyncio.wait([waiting])
        started = time.monotonic()
        await store.close()  # waits for running writes
        assert time.monotonic() - started < connection_thread.MAX_WAIT / 2
        holder.execute("ROLLBACK")
    assert _user_ids(path) == set()
    assert logged == []  # nothing is wrong with the store


async def test_a_lock_blocks_neither_readers_nor_the_loop(path: Path, store: SqliteStore) -> None:
    account = await _register(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        write = asyncio.create_task(store.apply(account.user_id, Rename("Bea", None), a_cause(account)))
        took = []
        for _ in range(200):
            begun = time.perf_counter()
            await asyncio.sleep(0)
            assert await store.get(account.user_id) == account
            took.append(time.perf_counter() - begun)
        assert not write.done()
        assert statistics.median(took) < 0.01
        holder.execute("ROLLBACK")
    assert (await write).first_name == "Bea"


RECOVERY = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    for place in (120, 122):  # the writer and recovery locks, see SQLite's "WAL-mode File Format"
        fcntl.lockf(index, fcntl.LOCK_EX, 1, place)
    index.write(bytes(136))  # clear the header, so that the next reader has to recover it
    index.flush()
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def recovering(path: Path) -> Iterator[Callable[[], object]]:
    """Run a process that holds the locks of a recovery. Yield a function that ends it."""
    command = [sys.executable, "-c", RECOVERY, f"{path}-shm"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"locked\n"
        yield process.communicate


async def test_a_read_that_finds_the_file_locked_waits_off_the_loop(path: Path, store: SqliteStore) -> None:
    """After a crash, the process that recovers the file's index locks out all readers."""
    account = await _register(store)
    with recovering(path) as unlock:
        begun = time.perf_counter()
        read = asyncio.create_task(store.get(account.user_id))
        await asyncio.sleep(0)  # let the read begin
        assert time.perf_counter() - begun < connection_thread.MAX_WAIT / 2
        assert not read.done()
        unlock()
        assert await read == account
    assert await store.get(account.user_id) == account


async def test_waiting_for_a_lock_times_out(
    store: SqliteStore, holder: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_thread, "MAX_WAIT", 0.2)
    begun = time.monotonic()
    outcomes = await asyncio.gather(*(_register(store) for _ in range(30)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 30
    assert 0.15 < time.monotonic() - begun < 3  # all at once, not one after the other
    holder.execute("ROLLBACK")
    account = await _register(store)
    assert await store.get(account.user_id) == account


async def _register(store: SqliteStore) -> Account:
    account = an_account()
    await store.register(account, HASH, a_cause(account))
    return account


def _user_ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {userid for (userid,) in connection.execute("SELECT userid FROM accounts")}
