"""HTTP/1.1 with keep-alive by the standard library's server, which a test can also tell to break off an answer."""

import json
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Reply:
    """An answer. With `sent`, the connection ends after so many bytes of it; `pause` is called after each byte."""

    status: int
    body: bytes
    content_type: str = "application/json"
    sent: int | None = None
    pause: Callable[[], None] | None = None

    @staticmethod
    def of(body: Any, status: int = 200) -> "Reply":
        return Reply(status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


class Cut(Exception):
    """Ends the connection without an answer: in good order, or by a reset."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


# From the path, the header `Token` and the body.
Respond = Callable[[str, str | None, bytes], Reply]


class Server(socketserver.ThreadingTCPServer):
    """Serves each connection on a thread of its own, and waits for all of them when it closes."""

    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], respond: Respond) -> None:
        self.respond = respond
        self.accepted = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_SECONDS,), name="data-api")
        super().__init__(address, _Connection)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends all connections, idle ones too."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # of one that its client has ended
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.accepted += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # which means that the client has gone
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._send(self.server.respond(self.path, self.headers.get("Token"), body))
        except Cut as cut:
            self.close_connection = True
            if cut.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.connection.close()

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if reply.pause is None:
            self.wfile.write(reply.body[: reply.sent])
        else:
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                reply.pause()
        self.close_connection = self.close_connection or reply.sent is not None

    def log_message(self, *_: object) -> None:
        """Keeps the terminal of a test free of requests."""
