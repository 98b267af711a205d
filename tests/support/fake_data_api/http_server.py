"""HTTP by aiohttp's server, on a thread of its own."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.support.loops import LoopThread

_BACKLOG = 512
_CLOSING_SECONDS = 0.01  # for requests under way to end


class HttpServer:
    """Answers every request with `respond`, which runs on its own loop. Starts when it is created."""

    def __init__(self, respond: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], port: int) -> None:
        self._respond = respond
        self._thread = LoopThread()
        self.port = self._thread.run(self._open(port))

    @property
    def accepted(self) -> int:
        """How many TCP connections there have been."""
        return self._server.accepted

    def close(self) -> None:
        """End all connections and cancel requests under way. Can be repeated."""
        if not self._thread.loop.is_closed():
            self._thread.run(self._end())
            self._thread.close()

    async def _end(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _open(self, port: int) -> int:
        self._server = _CountingServer(self._respond)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=_CLOSING_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, backlog=_BACKLOG).start()
        return int(self._runner.addresses[0][1])


class _CountingServer(web.Server):
    accepted = 0

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self.accepted += 1
        super().connection_made(handler, transport)
