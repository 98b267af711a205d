"""Keeps WORKERS processes of the service running, each on its own port.

Not on a shared one, because Envoy spreads calls over ports: its one connection to a shared port would reach one worker.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from threading import Event

import structlog

from killrvideo_grpc.config import Settings

LOOK_SECONDS = 0.2  # between two looks at the workers
RESTART_SECONDS = 1.0  # from the death of a worker to its successor
KILL_SECONDS = 5.0  # that a worker may take to end beyond its drain and grace periods

_log = structlog.get_logger("killrvideo_grpc.supervisor")


class WorkerFailed(Exception):
    """A worker ended before it could serve. It has said why on standard error."""


def supervise(settings: Settings, ports: list[int], announce: Callable[[list[int]], None], stopping: Event) -> None:
    """Runs a worker on each port until `stopping` is set, then ends them in order. Calls `announce` once all serve.

    Raises WorkerFailed when one can't start.
    """
    workers = [_Worker(port) for port in ports]
    try:
        for worker in workers:
            if not first_line(worker.process, stopping) and not stopping.is_set():
                raise WorkerFailed
        if not stopping.is_set():
            announce(ports)
        while not stopping.wait(LOOK_SECONDS):
            for worker in workers:
                worker.restart_if_dead()
    finally:
        until = time.monotonic() + settings.drain_seconds + settings.grace_period_seconds + KILL_SECONDS
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.end(until)


def first_line(process: "subprocess.Popen[str]", stopping: Event) -> str:
    """Waits for the first line of a process' output. Returns "" when it ends before that, or `stopping` is set."""
    output = process.stdout
    while output and not stopping.is_set():
        if select.select([output], [], [], LOOK_SECONDS)[0]:
            return output.readline()
    return ""


class _Worker:
    def __init__(self, port: int) -> None:
        self._port = port
        self._successor_at = 0.0
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            # -P: no module of ours or of others comes from the folder that the service happens to be started in.
            [sys.executable, "-P", "-m", "killrvideo_grpc", "serve", "--supervised"],
            env=os.environ | {"WORKERS": "1", "GRPC_PORT": str(self._port)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the supervisor, which ends its workers in order
        )

    def restart_if_dead(self) -> None:
        if self.process.poll() is None:
            return
        now = time.monotonic()
        if not self._successor_at:
            _log.error("worker died", port=self._port, exit_code=self.process.returncode)
            self._successor_at = now + RESTART_SECONDS
        elif now >= self._successor_at:
            self._successor_at = 0.0
            self._close_pipes()
            self.process = self._start()

    def ask_to_end(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()

    def end(self, until: float) -> None:
        try:
            self.process.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
