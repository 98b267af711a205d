"""Faults: what goes wrong, with which requests, and how often."""

import asyncio
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import orjson
from aiohttp import web

from tests.support.fake_data_api.errors import Refusal, error
from tests.support.fake_data_api.requests import Request

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def reply(body: Any, status: int = 200) -> web.Response:
    return web.json_bytes_response(body, dumps=orjson.dumps, status=status)


class Kind(Protocol):
    """A kind of fault."""

    async def meet(
        self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None
    ) -> web.StreamResponse | None:
        """Return a replacement for the answer, or None to continue. `answer` is the real one if the command ran."""


@dataclass(frozen=True)
class Delay:
    """Continues after a while."""

    seconds: float

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> None:
        await fault.wait(self.seconds)


@dataclass(frozen=True)
class Hang:
    """Continues when the fault is cleared, even if the client has gone."""

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> None:
        await fault.wait()


@dataclass(frozen=True)
class Late:
    """Ends the connection; the test carries the command out later, with `Fault.carry_out`."""

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> web.Response:
        fault.late.append(Request(http.path, orjson.loads(await http.read())))
        if http.transport is not None:
            http.transport.abort()
        return web.Response()  # which nobody gets


@dataclass(frozen=True)
class Close:
    """Ends the connection without an answer, or with a reset."""

    reset: bool = False

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> web.Response:
        if http.transport is not None:
            if self.reset:
                connection = http.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            http.transport.abort()
        return web.Response()  # which nobody gets


@dataclass(frozen=True)
class HttpStatus:
    """Another status than 200, with an error in the Data API's form if there is a code."""

    status: int
    code: str | None = None
    family: str = "REQUEST"

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> web.Response:
        if self.code is None:
            return web.Response(
                status=self.status, text="<html><body>it failed</body></html>", content_type="text/html"
            )
        return reply({"errors": [error("", self.code, "a fault", self.family)]}, self.status)


@dataclass(frozen=True)
class ErrorAnswer:
    """An error with HTTP 200, as the API reports most of them."""

    code: str
    family: str = "SERVER"
    scope: str = "DATABASE"

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> web.Response:
        return reply({"errors": [error(self.scope, self.code, "a fault", self.family)]})


@dataclass(frozen=True)
class Garbage:
    """HTTP 200 with a body that is no answer of a Data API."""

    body: bytes = b"<html><body>this is not JSON</body></html>"

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> web.Response:
        return web.Response(body=self.body, content_type="application/json")


@dataclass(frozen=True)
class Truncate:
    """Half of the answer, and the end of the connection."""

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> web.StreamResponse:
        response, body = await _begun(http, answer)
        await response.write(body[: len(body) // 2])
        if http.transport is not None:
            http.transport.close()
        return response


@dataclass(frozen=True)
class Drip:
    """Sends the answer byte by byte, `seconds` apart, so that no single read by the client takes long.

    Once the fault is cleared, sends the rest without pauses.
    """

    seconds: float

    async def meet(self, fault: "Fault", http: web.BaseRequest, answer: web.Response | None) -> web.StreamResponse:
        response, body = await _begun(http, answer)
        for byte in body:
            await response.write(bytes([byte]))
            await fault.wait(self.seconds)
        return response


async def _begun(http: web.BaseRequest, answer: web.Response | None) -> tuple[web.StreamResponse, bytes]:
    """Send the head of an answer, empty if the command has not run, and return its body."""
    answer = answer or reply({"data": {"document": None}, "status": {"projectionSchema": {}}})
    assert isinstance(answer.body, bytes)
    response = web.StreamResponse(headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(http)
    return response, answer.body


class Fault:
    """A kind of fault and the requests that have it.

    Clearing it, or leaving it as a context manager, releases the requests that it holds.
    """

    def __init__(
        self, kind: Kind, matches: Callable[[Request], bool], *, after_write: bool, skip: int, times: int | None
    ) -> None:
        self.kind = kind
        self.after_write = after_write
        self.hits = 0
        self.late: list[Request] = []
        self._matches = matches
        self._skip, self._times = skip, times
        self._cleared: Future[None] = Future()  # cleared on one thread, awaited on another

    def takes(self, request: Request) -> bool:
        """Return whether the request has this fault, and count it. The caller holds a lock."""
        if self._cleared.done() or self.hits == self._times or not self._matches(request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.hits += 1
        return True

    def carry_out(self, execute: Callable[[list[str], Any], object]) -> None:
        """Carry out the late requests with `FakeDataApi.execute`."""
        while self.late:
            request = self.late.pop(0)
            with suppress(Refusal):
                execute(request.below, request.body)

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until the fault is cleared, for at most `seconds`."""
        await asyncio.wait([asyncio.wrap_future(self._cleared)], timeout=seconds)

    def clear(self) -> None:
        if not self._cleared.done():
            self._cleared.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
