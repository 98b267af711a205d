"""An HTTP client that leaks no connections when requests are cancelled.

When a request is cancelled at the wrong moment, such as right after connecting, httpcore leaves its connection in the
pool, open but never used again.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import httpx

# Load balancers close idle connections after about a minute. httpx's default of 5 s costs handshakes.
KEEP_ALIVE_SECONDS = 50.0


class HttpPool:
    """The HTTP client of a `DataApi`. `headers` returns headers to add to the current request."""

    def __init__(self, headers: Callable[[], Mapping[str, str]]) -> None:
        async def add_headers(request: httpx.Request) -> None:
            request.headers.update(headers())

        limits = httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS)
        self._transport = httpx.AsyncHTTPTransport(verify=_trusted(), limits=limits)
        self.client = httpx.AsyncClient(transport=self._transport, event_hooks={"request": [add_headers]})
        self._closing: set[asyncio.Task[None]] = set()

    def discard_unfinished(self) -> None:
        """Close connections that the pool would never use again, after a request was cancelled."""
        pool: Any = self._transport._pool  # noqa: SLF001 # httpx and httpcore have no public access to these
        in_use = {id(request.connection) for request in pool._requests}  # noqa: SLF001
        for connection in list(pool.connections):
            if id(connection) not in in_use and not connection.is_idle():
                pool._connections.remove(connection)  # noqa: SLF001
                task = asyncio.create_task(connection.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections. Requests in progress fail."""
        await self.client.aclose()
        if self._closing:
            await asyncio.wait(self._closing)


@cache
def _trusted() -> ssl.SSLContext:
    """Return an SSL context with the trusted CAs, which are slow to load."""
    return httpx.create_ssl_context()
