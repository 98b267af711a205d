"""Keeps WORKERS processes of the service running, each on its own port.

Each has its own port so that Envoy can balance calls between them: its one connection to a shared port would reach only
one worker.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

import structlog

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import SetupError

RESTART_SECONDS = 1.0  # between the death of a worker and its restart
KILL_SECONDS = 5.0  # that a worker may take to end, after its drain and grace periods

_log = structlog.get_logger("killrvideo_grpc.supervisor")


async def supervise(
    settings: Settings, ports: list[int], announce: Callable[[list[int]], None], stopping: asyncio.Event
) -> None:
    """Runs a worker on each port until `stopping` is set, then shuts them down gracefully.

    Calls `announce` with the ports once all workers serve. Raises SetupError if one can't start.
    """
    workers = [_Worker(port, _variables(settings, worker)) for worker, port in enumerate(ports)]
    stopped: asyncio.Future[Any] = asyncio.create_task(stopping.wait())
    running: list[asyncio.Future[Any]] = [asyncio.create_task(worker.keep_running()) for worker in workers]
    serving: asyncio.Future[Any] = asyncio.gather(*(worker.is_serving.wait() for worker in workers))
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
        patience = settings.drain_seconds + settings.grace_period_seconds + KILL_SECONDS
        await asyncio.gather(*(worker.end(patience) for worker in workers))


async def end(process: Process, patience: float) -> None:
    """Asks the process to end by closing its standard input. Kills it if it takes longer than `patience` seconds."""
    if process.stdin:
        process.stdin.close()
    try:
        async with asyncio.timeout(patience):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _variables(settings: Settings, worker: int) -> dict[str, str]:
    """Returns a worker's own environment variables: each serves metrics on its own port."""
    return {"METRICS_PORT": str(settings.metrics_port + worker)} if settings.metrics_port else {}


class _Worker:
    def __init__(self, port: int, variables: dict[str, str]) -> None:
        self._port = port
        self._variables = variables
        self._starting: asyncio.Task[Process] | None = None
        self.is_serving = asyncio.Event()

    async def keep_running(self) -> None:
        """Starts the process, and restarts it when it dies. Raises SetupError if it dies before it ever served."""
        while True:
            self._starting = asyncio.create_task(self._start())
            # Shielded, so that `end` can still end a process that was being started when this task was cancelled.
            process = await asyncio.shield(self._starting)
            if process.stdout and await process.stdout.readline():
                self.is_serving.set()
            await process.wait()
            if not self.is_serving.is_set():
                raise SetupError("A worker could not start; its own message is above.")
            _log.error("worker died", port=self._port, exit_code=process.returncode)
            await asyncio.sleep(RESTART_SECONDS)

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            # -P: don't import modules from the current directory.
            *(sys.executable, "-P", "-m", "killrvideo_grpc", "serve", "--supervised"),
            env=os.environ | {"WORKERS": "1", "GRPC_PORT": str(self._port)} | self._variables,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # so that Ctrl-C reaches only the supervisor, which then ends its workers
        )

    async def end(self, patience: float) -> None:
        if self._starting is not None:
            await end(await self._starting, patience)
