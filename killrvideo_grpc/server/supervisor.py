"""Supervision of WORKERS processes of the service.

Each has its own port: Envoy's one connection to a shared port would reach only one worker.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import SetupError, cause_of

MIN_RESTART_DELAY, MAX_RESTART_DELAY = 1.0, 60.0  # seconds between the death of a worker and its restart
KILL_TIMEOUT = 5.0  # seconds that a worker may take to end, after its drain and grace periods

# No memory, or too many processes or open files. asyncio needs a thread for each process on some systems.
START_FAILURES = (OSError, RuntimeError)

_log = structlog.get_logger()


async def supervise(
    settings: Settings, ports: list[int], announce: Callable[[list[int]], None], stopping: asyncio.Event
) -> None:
    """Run a worker on each port until `stopping` is set, then shut them down gracefully.

    Call `announce` with the ports once all workers serve. Raise SetupError if one can't start.
    """
    workers = [Worker(port, _starter(settings, port, number)) for number, port in enumerate(ports)]
    stopped: asyncio.Future[Any] = asyncio.create_task(stopping.wait())
    running: list[asyncio.Future[Any]] = [asyncio.create_task(worker.keep_running()) for worker in workers]
    serving: asyncio.Future[Any] = asyncio.gather(*(worker.has_served.wait() for worker in workers))
    try:
        await asyncio.wait([stopped, serving, *running], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            announce(ports)
            await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task.done():
                task.result()  # raises SetupError
    finally:
        for task in (stopped, serving, *running):
            task.cancel()
        await asyncio.gather(stopped, serving, *running, return_exceptions=True)
        timeout = settings.drain_seconds + settings.grace_period_seconds + KILL_TIMEOUT
        await asyncio.gather(*(worker.end(timeout) for worker in workers))


class Worker:
    """A process that is restarted when it dies. `start` starts it."""

    def __init__(
        self,
        port: int,
        start: Callable[[], Awaitable[Process]],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._start = start
        self._sleep, self._clock = sleep, clock
        self._starting: asyncio.Future[Process] | None = None
        self.has_served = asyncio.Event()

    async def keep_running(self) -> None:
        """Start the process, and restart it when it dies. Raise SetupError if it dies before it ever served.

        The delay doubles with each restart, until a process has run for longer than MAX_RESTART_DELAY.
        """
        delay = MIN_RESTART_DELAY
        while True:
            started = self._clock()
            end: dict[str, object]
            try:
                event, end = "worker died", {"exit_code": await self._run()}
            except START_FAILURES as error:
                event, end = "worker not started", {"cause": cause_of(error)}
            if not self.has_served.is_set():
                raise SetupError(f"A worker could not start: {end.get('cause', 'its own message is above')}.")
            if self._clock() - started > MAX_RESTART_DELAY:
                delay = MIN_RESTART_DELAY
            _log.error(event, port=self._port, restart_in=delay, **end)
            await self._sleep(delay)
            delay = min(2 * delay, MAX_RESTART_DELAY)

    async def _run(self) -> int | None:
        """Run the process until it ends, and return its exit code. Raise START_FAILURES if it can't be started."""
        self._starting = asyncio.ensure_future(self._start())
        # Shielded: if this task is cancelled, `end` still ends the process.
        process = await asyncio.shield(self._starting)
        if process.stdout and await process.stdout.readline():
            self.has_served.set()
        await process.wait()
        return process.returncode

    async def end(self, timeout: float) -> None:  # noqa: ASYNC109 # the process is killed when it has passed
        """Ask the process to end by closing its standard input. Kill it if it takes longer than `timeout` seconds."""
        if self._starting is None:
            return
        try:
            process = await self._starting
        except START_FAILURES:
            return
        if process.stdin:
            process.stdin.close()
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _starter(settings: Settings, port: int, number: int) -> Callable[[], Awaitable[Process]]:
    variables = {"WORKERS": "1", "GRPC_PORT": str(port)}
    if settings.metrics_port:
        variables["METRICS_PORT"] = str(settings.metrics_port + number)

    async def start() -> Process:
        return await asyncio.create_subprocess_exec(
            # -P: don't import modules from the current directory.
            *(sys.executable, "-P", "-m", "killrvideo_grpc", "serve", "--supervised"),
            env=os.environ | variables,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C reaches only the supervisor
        )

    return start
