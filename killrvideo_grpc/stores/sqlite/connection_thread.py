"""A thread with its own connection, for work that would block the event loop."""

import asyncio
import contextvars
import errno
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.stores.sqlite.file import DatabaseFile, is_busy, transaction, unavailable

MAX_WAIT = 5.0  # seconds that a call may wait, in the queue and for locks together
CHECK_STEPS = 100_000  # of SQLite's virtual machine (a few ms) between checks that a read is still wanted
CHECK_SECONDS = 0.05  # between checks that a write that waits for a lock is still wanted

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[sqlite3.Connection, P], T]


@dataclass(slots=True)
class _Job:
    """A place in the queue. The event loop sets `is_abandoned` when the caller is cancelled."""

    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_WAIT)
    is_abandoned: bool = False

    @property
    def is_over(self) -> bool:
        """Whether to stop working on the job."""
        return self.is_abandoned or time.monotonic() >= self.deadline


class ConnectionThread:
    """Runs functions on its connection, one at a time, in the order of the calls.

    A write whose caller is cancelled while it waits, in the queue or for a lock, never runs; once begun, it runs to
    completion. The methods raise StoreUnavailable for any problem with the file.
    """

    def __init__(
        self, file: DatabaseFile, connection: sqlite3.Connection, name: str, instrumentation: Instrumentation = NOOP
    ) -> None:
        self._file = file
        self._instrumentation = instrumentation
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._is_closed = False

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a transaction, which is on disk when this returns. An exception rolls it back."""

        def transact(job: _Job) -> T:
            while True:
                self._fail_if_unwanted(job)
                self._wait_at_most(job, CHECK_SECONDS)
                self._file.fail_if_replaced()
                try:
                    with transaction(self._connection, "BEGIN IMMEDIATE"):
                        self._fail_if_unwanted(job)  # BEGIN may have waited for the lock
                        return work(self._connection, *args, **kwargs)
                except sqlite3.Error as error:
                    if not is_busy(error) or time.monotonic() >= job.deadline:
                        raise

        with self._instrumentation.store_request(_kind(work)):
            return await self._queue(transact)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, which only reads. It may wait for a lock, and is interrupted if its caller is cancelled."""

        def query(job: _Job) -> T:
            self._wait_at_most(job, MAX_WAIT)
            self._connection.set_progress_handler(lambda: job.is_over, CHECK_STEPS)
            try:
                return work(self._connection, *args, **kwargs)
            finally:
                self._connection.set_progress_handler(None, 0)

        with self._instrumentation.store_request(_kind(work)):
            return await self._queue(query)

    async def truncate_log(self) -> None:
        """Empty the write-ahead log, which still has deleted data. Do nothing if another process is reading."""

        def truncate(job: _Job) -> None:
            self._wait_at_most(job, CHECK_SECONDS)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        await self._queue(truncate)

    async def close(self) -> None:
        """Finish the work that has begun, fail the rest, and close the connection."""
        if not self._is_closed:
            self._is_closed = True
            closing = asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._thread.shutdown(wait=False)
            await asyncio.shield(closing)  # closes even if the caller is cancelled

    async def _queue(self, work: Callable[[_Job], T]) -> T:
        if self._is_closed:
            raise unavailable(_closed())
        context = contextvars.copy_context()  # so that log lines from the thread carry the request id
        job = _Job()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, context.run, self._run, work, job)
        except asyncio.CancelledError:
            job.is_abandoned = True
            raise

    def _run(self, work: Callable[[_Job], T], job: _Job) -> T:
        try:
            self._fail_if_unwanted(job)
            return work(job)
        except (sqlite3.Error, OSError) as error:
            if job.is_abandoned and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise _cancelled() from None
            raise unavailable(error) from None

    def _fail_if_unwanted(self, job: _Job) -> None:
        if job.is_abandoned:
            raise _cancelled()
        if self._is_closed:
            raise _closed()

    def _wait_at_most(self, job: _Job, seconds: float) -> None:
        """Set how long SQLite waits for a lock: `seconds`, or the job's remaining time if that is less."""
        left = min(seconds, max(0.0, job.deadline - time.monotonic()))
        self._connection.execute(f"PRAGMA busy_timeout = {int(left * 1000)}")


def _kind(work: Callable[..., object]) -> str:
    return getattr(work, "__name__", type(work).__name__)


def _cancelled() -> StoreUnavailable:
    return StoreUnavailable("the caller was cancelled")


def _closed() -> OSError:
    return OSError(errno.ESHUTDOWN, "the store is closed")
