"""Work that a caller need not wait for, on the same event loop."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

AT_ONCE = 8  # so that it leaves most of the store to those who wait for an answer
MAX_WAITING = 1000
CLOSE_SECONDS = 1.0

_log = structlog.get_logger("killrvideo_grpc.stores.astra")


class Background:
    """Runs a bounded number of jobs at once. What is lost here, the sweep makes up for, so nothing is ever raised."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, job: Callable[[], Awaitable[object]]) -> None:
        """Runs the job soon; leaves it to the sweep when too many wait already."""
        if len(self._tasks) >= MAX_WAITING:
            _log.warning("left to the sweep", job=name, cause="too many wait")
            return
        task = asyncio.create_task(self._run(name, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Returns when no job is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Gives the jobs CLOSE_SECONDS to finish, and abandons the rest."""
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
