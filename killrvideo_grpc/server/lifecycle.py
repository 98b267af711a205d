"""`killrvideo-grpc serve`: a single process or, with several workers, a supervisor and a process per worker."""

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.observability.setup import open_instrumentation
from killrvideo_grpc.server.open_files import raise_open_files_limit
from killrvideo_grpc.server.ports import worker_ports
from killrvideo_grpc.server.signals import stop_event
from killrvideo_grpc.server.stores import open_store
from killrvideo_grpc.server.supervisor import supervise

if TYPE_CHECKING:
    from killrvideo_grpc.server.grpc_server import UserServer

RETRY_INTERVAL = 1.0  # seconds between attempts to open a store that does not answer

Announce = Callable[[list[int]], None]
StartServer = Callable[[Settings, AccountStore, Instrumentation], Awaitable["UserServer"]]

_log = structlog.get_logger()


def serve(settings: Settings, announce: Announce, supervised: bool = False) -> None:
    """Serve until SIGTERM, SIGHUP or SIGINT or, if `supervised`, until standard input closes. Then stop gracefully.

    Call `announce` with the ports once the service answers calls.
    """
    _open_missing_streams()
    if not supervised:  # the limit is inherited from the supervisor
        raise_open_files_limit(settings.max_concurrent_rpcs)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(settings, announce, supervised))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop, or asyncio's on platforms without uvloop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(settings: Settings, announce: Announce, supervised: bool) -> None:
    stopping = stop_event()
    if supervised:
        # The pipe closes even if the supervisor is killed.
        _set_at_end_of_input(stopping)
    start_server = _load_server() if settings.workers == 1 else None
    instrumentation = open_instrumentation(settings) if start_server else NOOP
    store = await _wait_for_store(settings, stopping, instrumentation)
    if store is None:
        return
    if start_server is None:
        # Opening the store and reading the keys here reports problems once, not from every worker.
        await store.close()
        settings.accepted_keys()
        await supervise(settings, worker_ports(settings), announce, stopping)
        return
    server = await start_server(settings, store, instrumentation)
    _settle_memory()
    announce([server.port])
    await stopping.wait()
    _log.info("stopping", drain_seconds=settings.drain_seconds, grace_period_seconds=settings.grace_period_seconds)
    server.report_not_serving()
    await asyncio.sleep(settings.drain_seconds)
    await server.shut_down(settings.grace_period_seconds)
    _log.info("stopped")


def _load_server() -> StartServer:
    """Import what a process that answers calls needs, but a supervisor doesn't."""
    gc.disable()  # imports leave no garbage
    from killrvideo_grpc.server.bootstrap import start_server

    gc.enable()
    gc.freeze()  # the next collection would search all of it
    return start_server


async def _wait_for_store(
    settings: Settings, stopping: asyncio.Event, instrumentation: Instrumentation
) -> AccountStore | None:
    """Open the store, waiting until it answers. Return None if the service is stopped before that."""
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        while not stopped.done():
            opening = asyncio.ensure_future(open_store(settings, instrumentation))
            await asyncio.wait([opening, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                opening.cancel()
                await asyncio.wait([opening])
                break
            try:
                return opening.result()
            except StoreUnavailable as error:
                _log.warning("waiting for the store to answer", store=settings.store, cause=str(error))
                await asyncio.wait([stopped], timeout=RETRY_INTERVAL)
        return None
    finally:
        stopped.cancel()


def _open_missing_streams() -> None:
    """Open standard streams that are closed. Sockets would get their descriptors, and libuv would abort."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor: this one


def _settle_memory() -> None:
    """Give the memory that only start-up needed back to the system: with glibc, a quarter of the total.

    Later garbage collections skip the rest. One that searched it would stop the event loop for 70 ms.
    """
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _set_at_end_of_input(event: asyncio.Event) -> None:
    loop, standard_input = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(standard_input, 4096):
            loop.remove_reader(standard_input)
            event.set()

    loop.add_reader(standard_input, read)
