"""One real service and one real Envoy for all REST tests."""

import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from killrvideo_grpc.edge.render import Edge as EdgeSettings
from killrvideo_grpc.edge.render import render
from tests.support.accounts import PASSWORD, an_address
from tests.support.forks import Fork
from tests.support.ports import free_port
from tests.support.process import BIN, environment, forked
from tests.support.sibling import plain

if TYPE_CHECKING:
    from tests.rest.site import Site

ROOT = Path(__file__).parents[2]
USERS = "/api/v1/users"
JSON = {"content-type": "application/json"}


@dataclass
class Address:
    """Where an edge listens."""

    url: str

    def connect(self) -> socket.socket:
        """Open a TCP connection."""
        place = urlsplit(self.url)
        return socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=20)


@dataclass
class Edge(Address):
    """A running `make web`."""

    process: Fork
    workers: list[int]
    banner: str
    log: Path
    database: Path


@contextmanager
def web(folder: Path, drain_seconds: str = "0", **changes: str) -> Iterator[Edge]:
    """Run `make web` with its store in `folder` and on free ports."""
    log = folder / "web.log"
    variables = environment(folder, HTTP_PORT=str(free_port()), DRAIN_SECONDS=drain_seconds, **changes)
    with forked(ROOT, ["edge", "web"], variables, log) as (process, banner):
        found = re.search(r"on (http://\S+) \(workers on ([\d, ]+)\)", banner)
        assert found, log.read_text()
        try:
            yield Edge(
                found[1], process, [int(port) for port in found[2].split(",")], banner, log, folder / "killrvideo.db"
            )
        finally:
            process.terminate()
            process.wait(30)
    # Envoy lets requests pass after an error in Lua.
    assert "[lua]" not in log.read_text()


@contextmanager
def envoy(edge: EdgeSettings) -> Iterator[int]:
    """Start Envoy alone, and return its process id."""
    with NamedTemporaryFile("w", suffix=".yaml") as file, NamedTemporaryFile("w+") as log:
        file.write(render(edge))
        file.flush()
        command: list[Any] = [BIN / "envoy", "-c", file.name, "--disable-hot-restart", "--log-level", "error"]
        with subprocess.Popen(command, stderr=log) as process:
            try:
                yield process.pid
            finally:
                process.kill()
                process.wait()
                sys.stderr.write(text := Path(log.name).read_text())
        assert "[lua]" not in text


def is_ready(client: httpx.Client) -> bool:
    """Return whether the edge passes calls on to the service."""
    try:
        return client.get(f"{USERS}/me").status_code == httpx.codes.UNAUTHORIZED
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with web(tmp_path_factory.mktemp("web"), PROJECT_NAME="KillrVideo") as edge:
        yield edge


@pytest.fixture(scope="session")
def client(edge: Edge) -> Iterator[httpx.Client]:
    with httpx.Client(verify=False, base_url=edge.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Site"]:
    from tests.rest.site import running_site  # which imports this module

    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(shared_site: "Site") -> "Site":
    """Return the module's site. Its sibling has received nothing, and answers as at first."""
    shared_site.sibling.received.clear()
    shared_site.sibling.answer, shared_site.sibling.reads_bodies = plain, True
    return shared_site


def bearer(token: str) -> dict[str, str]:
    """Return the header for an access token or a service's token."""
    return {"authorization": f"Bearer {token}"}


@dataclass
class Account:
    """A registered account."""

    email: str
    user_id: str
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        return bearer(self.token)


@pytest.fixture
def account(client: httpx.Client) -> Account:
    return registered(client)


def registered(client: httpx.Client) -> Account:
    """Register an account and log it in, over REST."""
    email = an_address()
    made = client.post(f"{USERS}/register", json=registration(email))
    assert made.status_code == 201, made.text
    token = client.post(f"{USERS}/login", json={"email": email, "password": PASSWORD}).json()["token"]
    return Account(email, made.json()["userId"], token)


def promote(edge: Edge, account: Account) -> None:
    """Make the account a moderator."""
    with closing(sqlite3.connect(edge.database)) as connection, connection:
        connection.execute("UPDATE accounts SET roles = '[\"moderator\"]' WHERE userid = ?", (account.user_id,))


def registration(email: str) -> dict[str, str]:
    """Return the body of a registration."""
    return {"email": email, "password": PASSWORD, "firstName": "Ann", "lastName": "Lee"}


def problem(answer: httpx.Response, status: int, code: str | None = None, detail: str | None = None) -> None:
    """Check that a response is a complete problem document with this status, reason and detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (
        {"type", "title", "status", "detail", "instance"}
        <= body.keys()
        <= {*("type", "title", "status", "detail", "instance", "code", "errors")}
    )
    assert (body["type"], body["status"]) == ("about:blank", status)
    assert body["title"]
    assert body["detail"] == (detail or body["detail"] or None)
    assert body.get("code") == code
    assert body["instance"] == answer.request.url.path


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def raw(
    edge: Address, line: str, *headers: str, body: bytes = b"", has_host: bool = True
) -> tuple[int, dict[str, str], str]:
    """Send bytes that no HTTP client would send, and read the response."""
    host = [f"host: {urlsplit(edge.url).netloc}"] if has_host else []
    head = "\r\n".join([line, *host, "connection: close", *headers, "", ""])
    with edge.connect() as connection:
        connection.sendall(head.encode("latin-1") + body)
        with connection.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            fields = iter(lambda: stream.readline().decode("latin-1").strip(), "")
            answered = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            return status, answered, stream.read(int(answered.get("content-length", 0))).decode()
