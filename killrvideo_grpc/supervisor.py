"""Keeps WORKERS processes of the service running, each on its own port.

They don't share a port, because Envoy spreads calls over ports: its one connection to a shared port would reach only
one worker.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

import structlog

from killrvideo_grpc.config import Settings

RESTART_SECONDS = 1.0  # from the death of a worker to its successor
KILL_SECONDS = 5.0  # that a worker may take to end beyond its drain and grace periods

_log = structlog.get_logger("killrvideo_grpc.supervisor")


class WorkerFailed(Exception):
    """A worker ended before it could serve. It has said why on standard error."""


async def supervise(
    settings: Settings, ports: list[int], announce: Callable[[list[int]], None], stopping: asyncio.Event
) -> None:
    """Runs a worker on each port until `stopping` is set, then ends them in order. Calls `announce` once all serve.

    Raises WorkerFailed when one can't start.
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
                task.result()  # raises WorkerFailed
    finally:
        for task in (stopped, serving, *running):
            task.cancel()
        await asyncio.gather(stopped, serving, *running, return_exceptions=True)
        patience = settings.drain_seconds + settings.grace_period_seconds + KILL_SECONDS
        await asyncio.gather(*(worker.end(patience) for worker in workers))


async def end(process: Process, patience: float) -> None:
    """Closes the process's standard input, which asks it to end, and kills it when it takes longer than `patience`."""
    if process.stdin:
        process.stdin.close()
    try:
        async with asyncio.timeout(patience):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _variables(settings: Settings, worker: int) -> dict[str, str]:
    """Returns what differs between workers beside their ports: each answers for itself when it is asked for metrics."""
    return {"METRICS_PORT": str(settings.metrics_port + worker)} if settings.metrics_port else {}


class _Worker:
    def __init__(self, port: int, variables: dict[str, str]) -> None:
        self._port = port
        self._variables = variables
        self._starting: asyncio.Task[Process] | None = None
        self.is_serving = asyncio.Event()

    async def keep_running(self) -> None:
        """Starts the process, again whenever it dies. Raises WorkerFailed if it dies before it ever served."""
        while True:
            self._starting = asyncio.create_task(self._start())
            # Shielded, so that a process that is being started when this is cancelled can still be ended.
            process = await asyncio.shield(self._starting)
            if process.stdout and await process.stdout.readline():
                self.is_serving.set()
            await process.wait()
            if not self.is_serving.is_set():
                raise WorkerFailed
            _log.error("worker died", port=self._port, exit_code=process.returncode)
            await asyncio.sleep(RESTART_SECONDS)

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            # -P: don't import modules from the folder in which the service happens to be started.
            *(sys.executable, "-P", "-m", "killrvideo_grpc", "serve", "--supervised"),
            env=os.environ | {"WORKERS": "1", "GRPC_PORT": str(self._port)} | self._variables,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C is for the supervisor, which ends its workers in order
        )

    async def end(self, patience: float) -> None:
        if self._starting is not None:
            await end(await self._starting, patience)
