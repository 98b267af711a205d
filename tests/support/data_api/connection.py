"""HTTP/1.1 with keep-alive, as small as tests and a benchmark need it: one thread a connection, one write an answer."""

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedIOBase
from typing import Any

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_JSON = "application/json"


@dataclass(frozen=True)
class HttpRequest:
    """Header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Pace:
    """A byte each so many seconds, until there is no more need to."""

    seconds: float
    over: threading.Event


@dataclass(frozen=True)
class Reply:
    """An answer, of which `sent` bytes of the body go out before the connection is closed; None: all, and it stays."""

    status: int
    body: bytes
    content_type: str = _JSON
    sent: int | None = None
    pace: Pace | None = None

    @staticmethod
    def of(body: Any, status: int = 200) -> "Reply":
        return Reply(status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())

    def encoded(self) -> bytes:
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            f"content-type: {self.content_type}\r\ncontent-length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body[: self.sent]


class Cut(Exception):
    """The connection ends without an answer: in good order, or by a reset."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("cut")
        self.reset = reset


Responder = Callable[[HttpRequest, int], Reply]


class ConnectionServer(socketserver.ThreadingTCPServer):
    """Hands each request to `respond`, with the number of its connection, which counts from 1."""

    allow_reuse_address = True
    daemon_threads = False  # closing waits for them, so nothing of a test outlives it
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], respond: Responder) -> None:
        self.respond = respond
        self.accepted = 0
        self._open: dict[socket.socket, int] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.accepted += 1
            self._open[request] = self.accepted
        super().process_request(request, client_address)

    def number_of(self, connection: socket.socket) -> int:
        return self._open[connection]

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def disconnect_all(self) -> None:
        """Ends every connection, idle ones too."""
        with self._lock:
            for connection in self._open:
                _hang_up(connection)


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: ConnectionServer

    def handle(self) -> None:
        number = self.server.number_of(self.connection)
        try:
            while (request := _read_request(self.rfile)) is not None:
                reply = self.server.respond(request, number)
                self._send(reply.encoded(), reply.pace)
                if reply.sent is not None:
                    return
        except Cut as cut:
            if cut.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.connection.close()
        except OSError:
            return  # the client has gone, or the server is being closed

    def _send(self, answer: bytes, pace: Pace | None) -> None:
        begun = 0
        while pace is not None and not pace.over.is_set() and begun < len(answer):
            self.connection.sendall(answer[begun : begun + 1])
            begun += 1
            pace.over.wait(pace.seconds)
        self.connection.sendall(answer[begun:])

    def finish(self) -> None:
        self.rfile.close()


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


def _read_request(stream: BufferedIOBase) -> HttpRequest | None:
    """The next request of a connection, or None when the client has closed it."""
    method, _, rest = stream.readline().decode("latin-1").partition(" ")
    if not rest:
        return None
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = stream.read(length)
    if len(body) < length:
        return None
    return HttpRequest(method, rest.split(" ", 1)[0], headers, body)
