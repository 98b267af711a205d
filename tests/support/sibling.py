"""A sibling of the service: an HTTP server that tests tell what to answer."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.loops import LoopThread, loop_thread
from tests.support.ports import free_port

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_BYTES = 2 << 20


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of all headers with this name."""
        return [value for key, value in self.headers if key.lower() == name]


async def plain(request: web.Request) -> web.StreamResponse:
    """Answer with a text."""
    return web.Response(text="sibling")


@dataclass
class Sibling:
    """A running sibling, which keeps the requests that it got."""

    loop: LoopThread
    port: int = field(default_factory=free_port)
    answer: Answer = plain
    received: list[Received] = field(default_factory=list)
    reads_bodies: bool = True  # before it answers
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Received:
        """The latest request."""
        return self.received[-1]

    def start(self) -> None:
        """Listen."""
        self.loop.run(self._start())

    def stop(self) -> None:
        """Stop listening, and end all connections."""
        if self._runner:
            self.loop.run(self._runner.cleanup())
        self._runner = None

    async def _start(self) -> None:
        app = web.Application(client_max_size=MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.raw_headers]
        body = await request.read() if self.reads_bodies else b""
        self.received.append(Received(request.method, request.raw_path, headers, body))
        return await self.answer(request)


@contextmanager
def running_sibling() -> Iterator[Sibling]:
    """Run a sibling on a thread."""
    with loop_thread() as loop:
        sibling = Sibling(loop)
        sibling.start()
        try:
            yield sibling
        finally:
            sibling.stop()
