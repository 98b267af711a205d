"""gRPC calls made of bare HTTP/2 frames, for what no gRPC client does."""

import socket

from h2.connection import H2Connection


def started_calls(
    port: int, path: str, count: int = 1, *, window: int = 65535, message: bytes | None = None, timeout: str = ""
) -> socket.socket:
    """Starts calls of a method on one connection, and returns it once the server has answered something.

    They send `message` and end, or without one, nothing beyond their headers. `window` is how many bytes the server may
    send to each, and `timeout` a deadline that only the server keeps, such as "500m".
    """
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
    assert connection.recv(1000)
    return connection
