"""Background work on the event loop, for which no caller waits."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

AT_ONCE = 8  # few, so that background work doesn't slow down calls that are waiting for an answer
MAX_WAITING = 1000
CLOSE_SECONDS = 1.0

_log = structlog.get_logger("killrvideo_grpc.stores.astra")


class Background:
    """Runs a bounded number of jobs at once. Never raises: a sweep finishes jobs that fail or are dropped."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, job: Callable[[], Awaitable[object]]) -> None:
        """Schedules the job, or leaves it to the sweep if too many jobs are already waiting."""
        if len(self._tasks) >= MAX_WAITING:
            _log.warning("left to the sweep", job=name, cause="too many jobs are waiting")
            return
        task = asyncio.create_task(self._run(name, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Waits until no job is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Waits up to CLOSE_SECONDS for the jobs to finish, then cancels the rest."""
        if not self._tasks:
            return
        _, abandoned = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in abandoned:
            task.cancel()
        if abandoned:
            await asyncio.wait(abandoned)
            _log.warning("left to the sweep", jobs=len(abandoned), cause="closed")

    async def _run(self, name: str, job: Callable[[], Awaitable[object]]) -> None:
        try:
            async with self._places:
                await job()
        except Exception as error:
            _log.warning("left to the sweep", job=name, cause=type(error).__name__)
