"""The composed server on a loop thread, for synchronous tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.instrumentation import Instrumentation
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.observability.setup import open_instrumentation
from killrvideo_grpc.server.bootstrap import start_server
from killrvideo_grpc.server.grpc_server import RECEIVE_TIMEOUT, UserServer
from killrvideo_grpc.server.lifecycle import new_event_loop
from killrvideo_grpc.server.stores import open_store
from tests.support.loops import LoopThread, NewLoop, loop_thread


class RunningServer:
    """A started `UserServer`, whose methods return once they are done."""

    def __init__(self, loop: LoopThread, server: UserServer) -> None:
        self.loop = loop
        self._server = server
        self._is_stopped = False
        self.port = server.port

    @property
    def target(self) -> str:
        """The address to call."""
        return f"127.0.0.1:{self.port}"

    def report_not_serving(self) -> None:
        """Report NOT_SERVING, and keep answering."""
        self.loop.loop.call_soon_threadsafe(self._server.report_not_serving)

    def stop(self, grace_seconds: float) -> None:
        """Stop the server, once."""
        if not self._is_stopped:
            self._is_stopped = True
            self.loop.run(self._server.shut_down(grace_seconds))


@contextmanager
def running_server(
    settings: Settings,
    store: AccountStore | None = None,
    receive_timeout: float = RECEIVE_TIMEOUT,
    new_loop: NewLoop = new_event_loop,
    instrumentation: Instrumentation | None = None,
) -> Iterator[RunningServer]:
    """Start the composed service, on the store of the settings unless given one, and stop it in the end."""
    instruments = instrumentation or open_instrumentation(settings)

    async def start() -> UserServer:
        opened = store or await open_store(settings, instruments)
        return await start_server(settings, opened, instruments, receive_timeout)

    with loop_thread(new_loop) as loop:
        server = RunningServer(loop, loop.run(start()))
        try:
            yield server
        finally:
            server.stop(0)


class AioServer:
    """A grpc.aio server on a loop thread, with the synchronous interface that pytest-grpc expects."""

    def __init__(self, loop: LoopThread, server: Any) -> None:
        self.loop = loop
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)  # what needs no loop: adding handlers and ports

    def start(self) -> None:
        """Start the server."""
        self.loop.run(self._server.start())

    def stop(self, grace: float | None = None) -> None:
        """Stop the server."""
        self.loop.run(self._server.stop(grace))
