"""What `killrvideo-grpc serve` does: one process until a signal ends it, or a supervisor and one process a worker."""

import sys
import threading
import time
from collections.abc import Callable

import structlog

from killrvideo_grpc.config import Settings, signing_key
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.ports import UserStore
from killrvideo_grpc.server import UserServer, free_ports, open_store
from killrvideo_grpc.stopping import set_after, stop_event
from killrvideo_grpc.supervisor import supervise

WAIT_SECONDS = 1.0  # between two tries to open a store that does not answer

Announce = Callable[[list[int]], None]

_log = structlog.get_logger("killrvideo_grpc.serving")


def serve(settings: Settings, announce: Announce, supervised: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, or if `supervised` until standard input closes. Then ends in order.

    Calls `announce` with the ports once calls are answered.
    """
    stopping = stop_event()
    if supervised:
        # The pipe closes with the supervisor, whatever ends that: no worker is left behind.
        set_after(sys.stdin.read, stopping)
    store = _wait_for_store(settings, stopping)
    if store is None:
        return
    if settings.workers > 1:
        # What is wrong with the store, the key or the host is said here, once, and not by every worker.
        store.close()
        signing_key(settings)
        supervise(settings, free_ports(settings), announce, stopping)
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


def _wait_for_store(settings: Settings, stopping: threading.Event) -> UserStore | None:
    """Opens the store, as soon as it answers; None: the service is to stop before that."""
    while not stopping.is_set():
        try:
            return open_store(settings)
        except StoreUnavailable as error:
            _log.warning("waiting for the store to answer", store=settings.store, cause=str(error))
            stopping.wait(WAIT_SECONDS)
    return None
