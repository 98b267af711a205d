"""What `make web` does: the service and its edge together, until Ctrl-C, SIGTERM or the end of either."""

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.edge.render import DEVELOPMENT_ORIGINS, Edge, render
from killrvideo_grpc.config import ConfigurationError, Port, Settings, Text, load_settings
from killrvideo_grpc.stopping import stop_event
from killrvideo_grpc.supervisor import first_line

BIN = Path(sys.executable).parent
PR_SET_PDEATHSIG = 1
# Longer than the interval in which Envoy looks at a worker's health, so that one that ends loses no call.
DRAIN_SECONDS = "2.5"


class WebSettings(Settings):
    """The service's settings, and where the edge listens."""

    http_host: Text = "127.0.0.1"
    http_port: Port = 8080


class CannotRun(Exception):
    """The edge or the service can't start, or ended. The text says which."""


def main() -> None:
    """Starts both, says how to use them, and ends both."""
    stopping = stop_event()
    try:
        _run(load_settings(WebSettings), stopping)
    except (ConfigurationError, CannotRun) as error:
        if not stopping.is_set():  # else what ended, or did not come up, was told to
            sys.exit(f"Error: {error}")


def _run(settings: WebSettings, stopping: threading.Event) -> None:
    if settings.tls_cert_file:
        raise CannotRun(
            "this edge speaks plaintext to the service. Unset the TLS_ settings; TLS for the web is Envoy's."
        )
    # Asked before anything starts, for a call would get through to whoever has the port.
    host, port = _free_address(settings.http_host, settings.http_port)
    with _service(settings, stopping) as (service, ports):
        edge = Edge(
            port=port,
            workers=[(_reachable(settings.grpc_host), worker) for worker in ports],
            host=host,
            project_name=settings.project_name,
            origins=DEVELOPMENT_ORIGINS,
        )
        with _envoy(edge) as envoy:
            if _answers(_url(edge), [service, envoy], stopping):
                print(_welcome(edge), flush=True)
            while _all_run([service, envoy]) and not stopping.wait(0.2):
                pass
            _end(service)  # before Envoy, through which its last answers go
    raise CannotRun("the service or Envoy ended; what it said is above.")


@contextmanager
def _service(settings: WebSettings, stopping: threading.Event) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    # Supervised: it ends when our end of its input closes, whatever ends us.
    process = subprocess.Popen(
        [BIN / "killrvideo-grpc", "serve", "--supervised"],
        env=os.environ | ({} if "drain_seconds" in settings.model_fields_set else {"DRAIN_SECONDS": DRAIN_SECONDS}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        addresses = first_line(process, stopping).strip().rpartition(" on ")[2]
        if not addresses:
            raise CannotRun("the service did not start.")
        yield process, [int(address.rpartition(":")[2]) for address in addresses.split(",")]
    finally:
        _end(process)


def _end(service: "subprocess.Popen[str]") -> None:
    if service.stdin:
        service.stdin.close()
    service.wait()


@contextmanager
def _envoy(edge: Edge) -> Iterator["subprocess.Popen[str]"]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(render(edge))
        file.flush()
        command: list[str | Path] = [BIN / "envoy", "-c", file.name]
        command += ["--disable-hot-restart", "--concurrency", "2", "--log-level", "warn"]
        process = subprocess.Popen(command, text=True, start_new_session=True, preexec_fn=_end_with_parent)  # noqa: PLW1509
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _end_with_parent() -> None:
    # Envoy watches no pipe, so Linux is asked to end it when we are killed.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(url: str, processes: "list[subprocess.Popen[str]]", stopping: threading.Event) -> bool:
    """Waits until a call gets through to the service; False: it never will."""
    while _all_run(processes) and not stopping.wait(0.1):
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", "/api/v1/users/me")
            if connection.getresponse().status == 401:
                return True
        except (OSError, http.client.HTTPException):
            pass  # Envoy does not listen yet
        finally:
            connection.close()
    return False


def _all_run(processes: "list[subprocess.Popen[str]]") -> bool:
    return all(process.poll() is None for process in processes)


def _free_address(host: str, port: int) -> tuple[str, int]:
    """Returns address and port, of the machine's choice for port 0. Raises CannotRun when it can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(address)
            found: tuple[str, int] = holder.getsockname()[:2]
            return found
    except OSError as error:
        raise CannotRun(
            f"Can't listen on {host}:{port}: {error.strerror}. Set HTTP_HOST and HTTP_PORT to a free one."
        ) from None


def _reachable(host: str) -> str:
    """Returns where to call what listens on a host: on all addresses means on this machine's own too."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _url(edge: Edge) -> str:
    host = _reachable(edge.host)
    return f"http://[{host}]:{edge.port}" if ":" in host else f"http://{host}:{edge.port}"


def _welcome(edge: Edge) -> str:
    post = f"curl -sS {_url(edge)}/api/v1/users"
    json = "-H 'content-type: application/json'"
    workers = ", ".join(str(port) for _, port in edge.workers)
    return f"""{edge.project_name} user service: REST, gRPC and gRPC-Web on {_url(edge)} (workers on {workers})

Make an account, log in, and see yourself:
  {post}/register {json} \\
    -d '{{"email":"ann@example.org","password":"correct horse","firstName":"Ann","lastName":"Lee"}}'
  TOKEN=$({post}/login {json} \\
    -d '{{"email":"ann@example.org","password":"correct horse"}}' | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
  {post}/me -H "authorization: Bearer $TOKEN"

Ctrl-C stops it."""


if __name__ == "__main__":
    main()
