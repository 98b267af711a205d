"""Envoy as a child process: starting it, waiting until calls pass through it, and draining it."""

import asyncio
import ctypes
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from killrvideo_grpc.config.fields import host_and_port
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.edge.render import Edge, render
from killrvideo_grpc.server.addresses import http_url, reachable_host
from killrvideo_grpc.server.log_relay import relayed_stderr

ENVOY = Path(sys.executable).parent / "envoy"
PR_SET_PDEATHSIG = 1
# The form of Envoy's own log. Its access log, in edge/envoy.yaml, is JSON anyway.
JSON_LINE = '{"timestamp":"%Y-%m-%dT%T.%e%z","level":"%l","event":"envoy","message":"%j"}'
POLL_INTERVAL = 0.05  # seconds


@asynccontextmanager
async def running_envoy(edge: Edge, log_format: str) -> AsyncIterator[Process]:
    """Start Envoy, and stop it in the end. `log_format` is the service's: `json` or `text`."""
    json_lines = ("--log-format", JSON_LINE) if log_format == "json" else ()
    with relayed_stderr() as stderr, tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(render(edge))
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *(ENVOY, "-c", file.name, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warn"),
            *json_lines,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _end_with_parent() -> None:
    # Linux sends SIGTERM to Envoy if this process is killed.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def wait_until_ready(edge: Edge) -> bool:
    """Wait until a call passes through Envoy to the service and back."""
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while True:
            try:
                response = await client.get(f"{edge_url(edge)}/.well-known/jwks.json")
                if response.status_code == httpx.codes.OK:
                    return True
            except httpx.HTTPError:
                pass  # Envoy does not listen yet
            await asyncio.sleep(POLL_INTERVAL)


@asynccontextmanager
async def admin_client(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    """Provide a client for Envoy's administration interface."""
    transport = httpx.AsyncHTTPTransport(uds=str(edge.admin))
    async with httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=5) as client:
        yield client


async def drain_connections(edge: Edge, admin: httpx.AsyncClient, timeout: float) -> None:  # noqa: ASYNC109
    """Close the port, then let callers end their connections, for at most `timeout` seconds."""
    with suppress(httpx.HTTPError, TimeoutError):  # Envoy has exited, or connections are still open
        async with asyncio.timeout(timeout):
            # The port is closed first: callers whose connections are closed would reconnect.
            await admin.post("/drain_listeners")
            await _wait_until_refused(edge)
            await admin.post("/healthcheck/fail")
            await wait_until_zero(admin, "downstream_cx_active")


async def wait_until_zero(admin: httpx.AsyncClient, gauge: str) -> None:
    """Wait until this gauge of Envoy is 0, or Envoy has exited."""
    with suppress(httpx.HTTPError):
        while True:
            stats = await admin.get("/stats", params={"filter": f"^http.edge.{gauge}$"})
            if stats.text.split()[-1:] == ["0"]:
                return
            await asyncio.sleep(POLL_INTERVAL)


async def _wait_until_refused(edge: Edge) -> None:
    # Envoy responds to the request to close the port before its threads have done so.
    with suppress(OSError):
        while True:
            _, writer = await asyncio.open_connection(reachable_host(edge.host), edge.port)
            writer.close()
            await asyncio.sleep(POLL_INTERVAL)


def free_address(host: str, port: int) -> tuple[str, int]:
    """Return the address and port to listen on, with a free port in place of 0. Raise SetupError if they are taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            free: tuple[str, int] = bound.getsockname()[:2]
            return free
    except OSError as error:
        wanted = host_and_port(host, port)
        raise SetupError(
            f"Can't listen on {wanted}: {error.strerror}. Set HTTP_HOST and HTTP_PORT to a free address."
        ) from None


def edge_url(edge: Edge) -> str:
    """Return the URL of the edge on this machine."""
    return http_url(reachable_host(edge.host), edge.port)
