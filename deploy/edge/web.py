"""What `make web` does: the service and its edge together, until Ctrl-C, SIGTERM or the end of either."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from deploy.edge.render import DEVELOPMENT_ORIGINS, Edge, render
from killrvideo_grpc.config import ConfigurationError, Settings, load_settings

BIN = Path(sys.executable).parent
PR_SET_PDEATHSIG = 1
LAST_LINE = "Ctrl-C stops it.\n"
# Longer than the interval in which Envoy looks at a worker's health, so that one that ends loses no call.
DRAIN_SECONDS = "2.5"


def main() -> None:
    """Starts both, says how to use them, and ends both."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        settings = load_settings()
        host, port = os.environ.get("HTTP_HOST", "127.0.0.1"), int(os.environ.get("HTTP_PORT", "8080"))
    except (ConfigurationError, ValueError) as error:
        sys.exit(f"Error: {error}")
    if settings.tls_cert_file:
        sys.exit(
            "Error: this edge speaks plaintext to the service. Unset the TLS_ settings; TLS for the web is Envoy's."
        )
    # Asked before anything starts, for a call would get through to whoever has the port.
    port = _free_port(host, port)
    with _service() as (service, ports):
        edge = Edge(
            port=port,
            workers=[(_reachable(settings), worker) for worker in ports],
            host=host,
            project_name=settings.project_name,
            origins=DEVELOPMENT_ORIGINS,
        )
        with _envoy(edge) as envoy:
            _wait_until_answering(edge, [service, envoy], stopping)
            if not stopping.is_set():
                print(_welcome(edge, ports), flush=True)
            while not stopping.wait(0.2) and _all_run([service, envoy]):
                pass
    if not stopping.is_set():
        sys.exit("Error: the service or Envoy ended; what it said is above.")


@contextmanager
def _service() -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    # Supervised: it ends when our end of its input closes, whatever ends us.
    process = subprocess.Popen(
        [BIN / "killrvideo-grpc", "serve", "--supervised"],
        env={"DRAIN_SECONDS": DRAIN_SECONDS} | os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    banner = list(takewhile(lambda line: line != LAST_LINE, process.stdout or ()))
    if not banner:
        sys.exit(process.wait())
    try:
        yield process, [int(address.rpartition(":")[2]) for address in banner[0].strip().split(",")]
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait()


@contextmanager
def _envoy(edge: Edge) -> Iterator["subprocess.Popen[str]"]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(render(edge))
        file.flush()
        command: list[str | Path] = [
            BIN / "envoy",
            "-c",
            file.name,
            "--disable-hot-restart",
            "--concurrency",
            "2",
            "--log-level",
            "warn",
        ]
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


def _wait_until_answering(edge: Edge, processes: "list[subprocess.Popen[str]]", stopping: threading.Event) -> None:
    """Returns when a call gets through to the service, or can't any more."""
    while _all_run(processes) and not stopping.wait(0.1):
        try:
            urllib.request.urlopen(f"http://{_reachable(edge)}:{edge.port}/api/v1/users/me", timeout=5)
        except urllib.error.HTTPError as answer:
            answer.close()
            if answer.code == 401:
                return
        except OSError:
            pass  # Envoy does not listen yet


def _all_run(processes: "list[subprocess.Popen[str]]") -> bool:
    return all(process.poll() is None for process in processes)


def _reachable(place: Settings | Edge) -> str:
    host = place.grpc_host if isinstance(place, Settings) else place.host
    return "127.0.0.1" if host in ("0.0.0.0", "localhost") else host  # noqa: S104


def _free_port(host: str, port: int) -> int:
    """Returns the port, or for 0 one that is free. Ends the program when it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((host, port))
        except OSError as error:
            sys.exit(f"Error: Can't listen on {host}:{port}: {error.strerror}. Set HTTP_PORT to a free one.")
        free: int = holder.getsockname()[1]
        return free


def _welcome(edge: Edge, ports: list[int]) -> str:
    url = f"http://{_reachable(edge)}:{edge.port}"
    post = f"curl -sS {url}/api/v1/users"
    json = "-H 'content-type: application/json'"
    workers = ", ".join(map(str, ports))
    return f"""{edge.project_name} user service: REST, gRPC and gRPC-Web on {url} (workers on {workers})

Make an account, log in, and see yourself:
  {post}/register {json} \\
    -d '{{"email":"ann@example.org","password":"correct horse","firstName":"Ann","lastName":"Lee"}}'
  TOKEN=$({post}/login {json} \\
    -d '{{"email":"ann@example.org","password":"correct horse"}}' | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
  {post}/me -H "authorization: Bearer $TOKEN"

{LAST_LINE.strip()}"""


if __name__ == "__main__":
    main()
