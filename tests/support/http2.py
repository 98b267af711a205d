"""gRPC calls in plain HTTP/2 frames, for what no gRPC client does."""

import socket
from collections import Counter
from collections.abc import Callable

from h2.connection import H2Connection
from h2.events import PingAckReceived, ResponseReceived, TrailersReceived


def started_calls(
    port: int, path: str, count: int = 1, *, window: int = 65535, message: bytes | None = None, timeout: str = ""
) -> socket.socket:
    """Start calls of a method on one connection, and return it once the server has answered something.

    Each sends `message` and ends; without a message, it only sends its headers. `window` is how many bytes the server
    may send to each, and `timeout` a deadline that only the server keeps, such as "500m".
    """
    connection, _ = _start(port, path, count, window, message, timeout)
    assert connection.recv(1000)
    return connection


def codes_of_calls(port: int, path: str, count: int, message: bytes, on_arrival: Callable[[], None]) -> Counter[int]:
    """Make concurrent calls of a method on one connection, and return how many ended with which status code.

    Call `on_arrival` once the server has received all of them.
    """
    connection, http2 = _start(port, path, count, 65535, message, "")
    codes: Counter[int] = Counter()
    with connection:
        http2.ping(b"arrived?")  # answered in its turn
        connection.sendall(http2.data_to_send())
        while codes.total() < count:
            for event in http2.receive_data(connection.recv(65536)):
                if isinstance(event, PingAckReceived):
                    on_arrival()
                elif isinstance(event, ResponseReceived | TrailersReceived):
                    codes.update(int(value) for name, value in event.headers if name == b"grpc-status")
            connection.sendall(http2.data_to_send())
    return codes


def _start(
    port: int, path: str, count: int, window: int, message: bytes | None, timeout: str
) -> tuple[socket.socket, H2Connection]:
    http2 = H2Connection()
    http2.local_settings.initial_window_size = window
    http2.initiate_connection()
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
    headers += [("grpc-timeout", timeout)] if timeout else []
    for number in range(count):
        http2.send_headers(2 * number + 1, [*headers, ("content-type", "application/grpc")])
        if message is not None:
            http2.send_data(2 * number + 1, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(http2.data_to_send())
    return connection, http2
