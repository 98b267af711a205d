"""Callers that request a lot and read nothing."""

from contextlib import ExitStack
from pathlib import Path

import httpx
from h2.connection import H2Connection

from tests.rest.conftest import USERS, command_of, web
from tests.support.eventually import eventually
from tests.support.process import children

CONNECTIONS, STREAMS = 250, 100  # Envoy's maximum of streams per connection
MOST_MEBIBYTES = 800  # measured: 490 to 540 with Envoy's limits, 1,580 without


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


def test_slow_readers_neither_fill_envoy_nor_keep_others_out(tmp_path: Path) -> None:
    with web(tmp_path) as edge, ExitStack() as readers:
        (envoy,) = [child for child in children(edge.process.pid) if "envoy" in command_of(child)]
        sent = requests()
        for _ in range(CONNECTIONS):
            readers.enter_context(edge.connect()).sendall(sent)
        eventually(lambda: httpx.get(f"{edge.url}{USERS}/me", timeout=20).status_code == 401)
        assert most_mebibytes_of(envoy) < MOST_MEBIBYTES
