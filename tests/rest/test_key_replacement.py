"""The recipes of docs/operations.md for SECRET_KEY, on two processes behind the edge, under calls."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from killrvideo.user.v1.user_service_pb2 import RefreshTokenRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.edge.render import Edge as EdgeSettings
from tests.e2e.callers import access, log_in, outcome
from tests.rest.conftest import USERS, envoy, registration
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration as registration_request
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import run, running
from tests.support.tokens import claims, signed

OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)
JWKS = "/.well-known/jwks.json"
HOME = "198.51.100.7"
SETTINGS = {"DRAIN_SECONDS": "2", "TRUSTED_PROXIES": "127.0.0.1", "MAX_FAILURES_PER_ACCOUNT": "4"}
_sources = (f"203.0.113.{number}" for number in count(1))


class Processes:
    """Two processes on one database, restarted one after the other. `admin` is the edge's socket, once it runs."""

    def __init__(self, folder: Path) -> None:
        self.ports = [free_port(), free_port()]
        self.admin = folder / "admin.sock"
        self._edge = httpx.Client(transport=httpx.HTTPTransport(verify=False, uds=str(self.admin)))
        self._folder = folder
        self._running = [ExitStack(), ExitStack()]
        self._stops = [lambda: 0, lambda: 0]

    def configure(self, **keys: str) -> None:
        """Give both processes these keys."""
        for number, port in enumerate(self.ports):
            assert self._stops[number]() == 0
            self._running[number].close()
            service = self._running[number].enter_context(
                running(self._folder, GRPC_PORT=str(port), **SETTINGS, **keys)
            )
            self._stops[number] = service.stop
            if self.admin.exists():
                eventually(lambda: self._is_healthy(port))  # noqa: B023 # called at once

    def _is_healthy(self, port: int) -> bool:
        clusters = self._edge.get("http://edge/clusters").text
        return f"user-service::127.0.0.1:{port}::health_flags::healthy\n" in clusters

    def kill(self) -> None:
        self._edge.close()
        for stack in self._running:
            stack.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.kill()


class Person:
    """Somebody who is logged in at home, over REST."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.email = an_address()
        self._ask("POST", f"{USERS}/register", json=registration(self.email))
        self.login = self.log_in()

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self.client.request(
            method, path, headers={"x-forwarded-for": HOME} | options.pop("headers", {}), **options
        )
        assert answer.is_success, (path, answer.text)
        return answer

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.login['token']}"}

    @property
    def kid(self) -> str:
        return str(jwt.get_unverified_header(self.login["token"])["kid"])

    def log_in(self) -> dict[str, Any]:
        body = {"email": self.email, "password": PASSWORD}
        return dict(self._ask("POST", f"{USERS}/login", json=body).json())

    def call(self) -> None:
        assert self._ask("GET", f"{USERS}/me", headers=self.bearer).json()["email"] == self.email

    def refresh(self) -> None:
        self.login = self._ask("POST", f"{USERS}/refresh", json={"refreshToken": self.login["refreshToken"]}).json()

    def next_page(self, token: str) -> str:
        """Return the token of the page after the one with this token, or of the second page."""
        query = {"pageSize": "1"} | ({"pageToken": token} if token else {})
        page = self._ask("GET", "/api/v1/moderation/users", params=query, headers=self.bearer)
        return str(page.headers.get("x-next-page-token", ""))

    def attempt(self, source: str, password: str) -> int:
        body = {"email": self.email, "password": password}
        return self.client.post(f"{USERS}/login", json=body, headers={"x-forwarded-for": source}).status_code


def check_known_source(person: Person) -> None:
    """Guess until strangers are refused, and log in at home."""
    eventually(lambda: person.attempt(next(_sources), "wrong guess") == 429)
    assert person.attempt(next(_sources), PASSWORD) == 429
    person.log_in()


@contextmanager
def calling(person: Person) -> Iterator[list[BaseException]]:
    """Call, refresh and turn pages all the time, at most 20 times a second. Yield the errors."""
    stopping, errors, calls = threading.Event(), list[BaseException](), count()

    def work() -> None:
        page = ""
        try:
            while not stopping.wait(0.05):
                person.call()
                page = person.next_page(page)
                if next(calls) % 5 == 0:
                    person.refresh()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield errors
    finally:
        stopping.set()
        thread.join()
    assert next(calls) > 100


def published(client: httpx.Client) -> set[str]:
    return {key["kid"] for key in client.get(JWKS).raise_for_status().json()["keys"]}


def test_replacing_the_key_logs_nobody_out(tmp_path: Path, processes: Processes) -> None:
    port = free_port()
    edge = EdgeSettings(
        port=port, workers=[("127.0.0.1", each) for each in processes.ports], trusted_hops=1, admin=processes.admin
    )
    processes.configure(SECRET_KEY=OLD)
    with envoy(edge), httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        eventually(lambda: is_ready(client))
        busy, idle = Person(client), Person(client)
        assert run(tmp_path, "roles", "assign", busy.email, "moderator").returncode == 0
        page = busy.next_page("")
        check_known_source(idle)
        (old,) = published(client)
        with calling(busy) as errors:
            # 1: the new key is accepted everywhere, and published.
            processes.configure(SECRET_KEY=OLD, SECRET_KEY_FALLBACKS=NEW)
            assert not errors
            assert len(keys := published(client)) == 2
            assert busy.kid == old
            # 2: the two are swapped.
            processes.configure(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=OLD)
            eventually(lambda: busy.kid != old)
            assert not errors
            assert published(client) == keys == {old, busy.kid}  # siblings have known it since step 1
            idle.call()
            check_known_source(idle)
            assert busy.next_page(page) != page
            idle.refresh()
            idle.call()
            # 3: the old key goes.
            processes.configure(SECRET_KEY=NEW)
            assert published(client) == {busy.kid}
            idle.call()
            idle.refresh()
            check_known_source(idle)
        assert not errors


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_leaked_key_opens_nothing_once_it_is_replaced(tmp_path: Path) -> None:
    email = an_address()
    with running(tmp_path, SECRET_KEY=OLD) as service, grpc.insecure_channel(service.target) as channel:
        stub = UserServiceStub(channel)
        stub.Register(registration_request(email))
        login = log_in(stub, email)
        assert service.stop() == 0
    body = jwt.decode(login.token, options={"verify_signature": False})
    forged = signed(claims(body["sub"], body["sid"]), OLD)
    with running(tmp_path, SECRET_KEY=NEW) as service, grpc.insecure_channel(service.target) as channel:
        stub = UserServiceStub(channel)
        for token in (login.token, forged):
            login.token = token
            assert access(stub, login) == "TOKEN_INVALID"
        refresh = RefreshTokenRequest(refresh_token=login.refresh_token)
        assert outcome(lambda: stub.RefreshToken(refresh)) == "REFRESH_TOKEN_INVALID"
        assert access(stub, log_in(stub, email)) == "OK"
