"""Background work on the event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeAlias

import structlog

MAX_CONCURRENT = 8  # so that calls aren't slowed down
MAX_WAITING = 1000
CLOSE_SECONDS = 1.0
WAIT_SECONDS = 1.0  # that an answer waits for work that the next call may rely on

Job: TypeAlias = Callable[[], Awaitable[object]]
Task: TypeAlias = asyncio.Task[None]

_log = structlog.get_logger()


class Background:
    """Runs jobs, one at a time for each key. Failures are logged and left to a sweep."""

    def __init__(self) -> None:
        self._permits = asyncio.Semaphore(MAX_CONCURRENT)
        self._waiting: dict[Hashable, Job] = {}
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def start(self, key: Hashable, job: Job) -> Task | None:
        """Schedule a job and return its task; None if too many wait. Replace a waiting job of the same key."""
        if len(self._tasks) >= MAX_WAITING and key not in self._tasks:
            _log.warning("projection_deferred", cause="too many jobs are waiting")
            return None
        self._waiting[key] = job
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._run(key))
        return self._tasks[key]

    async def wait(self, tasks: Sequence[Task | None]) -> None:
        """Wait up to WAIT_SECONDS for these tasks."""
        if started := [task for task in tasks if task is not None]:
            await asyncio.wait(started, timeout=WAIT_SECONDS)

    async def finish(self) -> None:
        """Wait until no job is left."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Wait up to CLOSE_SECONDS for the jobs to finish, then cancel the rest."""
        if not self._tasks:
            return
        _, abandoned = await asyncio.wait(list(self._tasks.values()), timeout=CLOSE_SECONDS)
        for task in abandoned:
            task.cancel()
        if abandoned:
            await asyncio.wait(abandoned)
            _log.warning("projection_deferred", jobs=len(abandoned), cause="closed")

    async def _run(self, key: Hashable) -> None:
        try:
            while key in self._waiting:
                async with self._permits:
                    await self._run_job(self._waiting.pop(key))
        finally:
            del self._tasks[key]  # without an await since the check of `_waiting`, so no job is lost

    async def _run_job(self, job: Job) -> None:
        try:
            await job()
        except Exception as error:
            _log.warning("projection_deferred", cause=type(error).__name__)
