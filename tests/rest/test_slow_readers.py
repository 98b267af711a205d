"""Callers that request a lot and read nothing."""

import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
from h2.connection import H2Connection

from killrvideo_grpc.edge.render import Edge as EdgeSettings
from tests.rest.conftest import envoy
from tests.support.eventually import eventually
from tests.support.ports import free_port

CONNECTIONS, STREAMS = 250, 100  # Envoy's maximum of streams per connection
MOST_MEBIBYTES = 800  # measured: 430 to 600 with Envoy's limits, 1,580 without
MOST_MEBIBYTES_LEFT = 100  # measured: 15; 95 to 325 with the document in the route's metadata


def requests() -> bytes:
    """Request the OpenAPI document on all streams of a connection, with a window that lets Envoy send nothing."""
    http2 = H2Connection()
    http2.local_settings.initial_window_size = 0
    http2.initiate_connection()
    for number in range(STREAMS):
        path = (":path", "/openapi.json")
        headers = [(":method", "GET"), (":scheme", "http"), (":authority", "edge"), path]
        http2.send_headers(2 * number + 1, headers, end_stream=True)
    return http2.data_to_send()


def most_mebibytes_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = [line for line in lines if line.startswith("VmHWM")]
    return int(peak.split()[1]) // 1024


def is_answered(url: str) -> bool:
    try:
        return httpx.get(url, timeout=20, verify=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_slow_readers_neither_fill_envoy_nor_keep_others_out(tmp_path: Path) -> None:
    port, socket_path, sent = free_port(), tmp_path / "admin.sock", requests()
    settings = EdgeSettings(port=port, workers=[("127.0.0.1", free_port())], admin=socket_path)
    with (
        envoy(settings) as pid,
        httpx.Client(transport=httpx.HTTPTransport(verify=False, uds=str(socket_path))) as admin,
    ):
        eventually(lambda: is_answered(f"http://127.0.0.1:{port}/"))
        with ExitStack() as readers:
            for _ in range(CONNECTIONS):
                readers.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(sent)
            total = "http://envoy/stats?filter=edge.downstream_rq_http2_total"
            eventually(lambda: int(admin.get(total).text.split()[-1]) >= CONNECTIONS * STREAMS)
            eventually(lambda: is_answered(f"http://127.0.0.1:{port}/"))
        assert most_mebibytes_of(pid) < MOST_MEBIBYTES
        eventually(lambda: int(admin.get("http://envoy/memory").json()["allocated"]) < MOST_MEBIBYTES_LEFT << 20)
