"""What `killrvideo-grpc serve` does: one process until a signal ends it, or a supervisor and one process a worker."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import structlog

from killrvideo_grpc.config import Settings, signing_key
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.ports import UserStore
from killrvideo_grpc.server import UserServer, open_store

LOOK_SECONDS = 0.2  # between two looks at the workers
WAIT_SECONDS = 1.0  # between two tries to open a store that does not answer
RESTART_SECONDS = 1.0  # from the death of a worker to its successor
KILL_SECONDS = 5.0  # that a worker may take to end beyond its drain and grace periods

Announce = Callable[[list[int]], None]

_log = structlog.get_logger("killrvideo_grpc.serving")


class WorkerFailed(Exception):
    """A worker ended before it could serve. It has said why on standard error."""


def serve(settings: Settings, announce: Announce, supervised: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, or if `supervised` until standard input closes. Then ends in order.

    Calls `announce` with the ports once calls are answered.
    """
    stopping = _stop_event(supervised)
    if settings.workers > 1:
        _supervise(settings, announce, stopping)
        return
    store = _wait_for_store(settings, stopping)
    if store is None:
        return
    server = UserServer(settings, store)
    server.start()
    announce([server.port])
    stopping.wait()
    _log.info("stopping", drain_seconds=settings.drain_seconds, grace_period_seconds=settings.grace_period_seconds)
    server.stop_serving()
    time.sleep(settings.drain_seconds)
    server.stop(settings.grace_period_seconds)
    _log.info("stopped")


def _stop_event(supervised: bool) -> threading.Event:
    event = threading.Event()

    def stop(signal_number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who presses Ctrl-C twice wants out now

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if supervised:
        # The pipe closes with the supervisor, whatever ends that: no worker is left behind.
        threading.Thread(target=_set_at_end_of_input, args=[event], daemon=True).start()
    return event


def _set_at_end_of_input(event: threading.Event) -> None:
    sys.stdin.read()
    event.set()


def _wait_for_store(settings: Settings, stopping: threading.Event) -> UserStore | None:
    """Opens the store, as soon as it answers; None: the service is to stop before that."""
    while not stopping.is_set():
        try:
            return open_store(settings)
        except StoreUnavailable as error:
            _log.warning("waiting for the store to answer", store=settings.store, cause=str(error))
            stopping.wait(WAIT_SECONDS)
    return None


def _supervise(settings: Settings, announce: Announce, stopping: threading.Event) -> None:
    """Runs one process a worker, each on its own port, because Envoy spreads calls over ports, not over one shared."""
    # What is wrong with the store or the key is said here, once, and not by every worker.
    store = _wait_for_store(settings, stopping)
    if store is None:
        return
    store.close()
    signing_key(settings)
    ports = _ports(settings)
    workers = {port: _start_worker(port) for port in ports}
    try:
        for worker in workers.values():
            if not worker.stdout or not worker.stdout.readline():
                raise WorkerFailed
        announce(ports)
        while not stopping.wait(LOOK_SECONDS):
            for port, worker in workers.items():
                if worker.poll() is not None:
                    _log.error("worker died", port=port, exit_code=worker.returncode)
                    stopping.wait(RESTART_SECONDS)
                    workers[port] = _start_worker(port)
    finally:
        _stop_workers(list(workers.values()), settings.drain_seconds + settings.grace_period_seconds + KILL_SECONDS)


def _start_worker(port: int) -> "subprocess.Popen[str]":
    # -P: no module of ours or of others comes from the folder that the service happens to be started in.
    command = [sys.executable, "-P", "-m", "killrvideo_grpc", "serve", "--supervised"]
    environment = os.environ | {"WORKERS": "1", "GRPC_PORT": str(port)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _stop_workers(workers: "list[subprocess.Popen[str]]", seconds: float) -> None:
    until = time.monotonic() + seconds
    for worker in workers:
        if worker.stdin:
            worker.stdin.close()
    for worker in workers:
        try:
            worker.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()


def _ports(settings: Settings) -> list[int]:
    if settings.grpc_port:
        return [settings.grpc_port + worker for worker in range(settings.workers)]
    # Held open together, so that they differ.
    holders = [socket.socket() for _ in range(settings.workers)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()
