"""The service as processes: first calls with grpcurl, races, kills, signals, workers."""

import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Barrier, Thread
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.errors import read_failure
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import GRPCURL, Service, children, run, running, running_command

SERVICE = "killrvideo.user.v1.UserService"
TLS = Path(__file__).parents[1] / "support" / "tls"
CERTIFICATE = {"TLS_CERT_FILE": str(TLS / "certificate.pem"), "TLS_KEY_FILE": str(TLS / "key.pem")}


def grpcurl(service: Service, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([GRPCURL, "-plaintext", *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service")) as service:
        yield service


def test_a_first_session_with_grpcurl(service: Service) -> None:
    def call(method: str, request: dict[str, str], *arguments: str) -> Any:
        data = ["-d", json.dumps(request)] if request else []
        done = grpcurl(service, *data, *arguments, service.target, f"{SERVICE}/{method}")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    email = an_address()
    credentials = {"email": email, "password": PASSWORD}
    registered = call("Register", credentials | {"first_name": "Ann", "last_name": "Lee"})
    login = call("Login", credentials)
    token = ["-H", f"authorization: Bearer {login['token']}"]
    assert call("GetMe", {}, *token) == login["user"]
    assert call("UpdateMe", {"first_name": "Bea"}, *token)["first_name"] == "Bea"
    assert registered["user_id"] == login["user"]["user_id"]


def test_the_calls_on_the_first_screen_work_as_they_stand(service: Service) -> None:
    calls = service.banner.partition(":\n")[2]
    assert calls.count("grpcurl") == 3
    environment = {"PATH": f"{Path(GRPCURL).parent}:{os.environ['PATH']}"}
    shell = ["sh", "-e", "-c", calls]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"email": "ann@example.org"') == 2


def test_grpcurl_shows_errors_with_their_details(service: Service) -> None:
    done = grpcurl(service, "-d", '{"email":"x"}', service.target, f"{SERVICE}/Register")
    assert done.returncode != 0
    assert "InvalidArgument" in done.stderr
    assert "VALIDATION_FAILED" in done.stderr
    assert "firstName" in done.stderr


def test_racing_registrations_over_two_processes_make_one_account(tmp_path: Path) -> None:
    """64 callers, 8 at a time per channel, call two services on one file."""
    email, start = "raced@example.org", Barrier(64)
    with ExitStack() as stack:
        services = [stack.enter_context(running(tmp_path)) for _ in range(2)]
        channels = [stack.enter_context(grpc.insecure_channel(service.target)) for service in services]

        def claim(number: int) -> grpc.StatusCode:
            stub = UserServiceStub(channels[number % 2])
            start.wait(30)
            try:
                stub.Register(registration(email.upper() if number % 3 else email), timeout=60)
            except grpc.RpcError as error:
                return read_failure(error).code
            return grpc.StatusCode.OK

        with ThreadPoolExecutor(64) as pool:
            codes = Counter(pool.map(claim, range(64)))
    assert codes == {grpc.StatusCode.OK: 1, grpc.StatusCode.ALREADY_EXISTS: 63}
    assert query(tmp_path, "SELECT count(*) FROM accounts") == [(1,)]


def test_answered_registrations_survive_kills(tmp_path: Path) -> None:
    """3 rounds of registrations until kill -9 at a random time."""
    random, answered = Random(20), []
    for _ in range(3):
        with running(tmp_path) as service, grpc.insecure_channel(service.target) as channel:
            stub = UserServiceStub(channel)
            kill_after = random.randrange(1, 40)

            def register(stub: UserServiceStub = stub) -> None:
                while True:
                    email = an_address()
                    try:
                        stub.Register(registration(email), timeout=10)
                    except grpc.RpcError:
                        return
                    answered.append(email)

            callers = [Thread(target=register) for _ in range(4)]
            goal = len(answered) + kill_after
            for caller in callers:
                caller.start()
            eventually(lambda: len(answered) >= goal)  # noqa: B023 # called at once
            service.process.kill()
            for caller in callers:
                caller.join()
    assert query(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    with running(tmp_path) as service, grpc.insecure_channel(service.target) as channel:
        stub = UserServiceStub(channel)
        for email in answered:
            token = stub.Login(LoginRequest(email=email, password=PASSWORD)).token
            assert stub.GetMe(GetMeRequest(), metadata=(("authorization", f"Bearer {token}"),)).email == email
    assert len(answered) >= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as service:
        with grpc.insecure_channel(service.target) as channel:
            UserServiceStub(channel).Register(registration(an_address()))
        service.process.send_signal(number)
        assert service.process.wait(30) == 0
        log = service.log.read_text()
    assert log.count("stopped") == 1
    assert "Traceback" not in log


def test_a_hangup_is_ignored_if_nohup_started_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running_command(tmp_path) as service:
            ignored = re.search(
                r"^SigIgn:\s*(\w+)$", Path(f"/proc/{service.process.pid}/status").read_text(), re.MULTILINE
            )
            assert ignored
            assert int(ignored[1], 16) & 1 << signal.SIGHUP - 1
    finally:
        signal.signal(signal.SIGHUP, before)


def test_workers_may_open_files_up_to_the_hard_limit_and_end_in_order(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with running_command(tmp_path, WORKERS="2") as service:
            for process in (service.process.pid, *children(service.process.pid)):
                assert resource.prlimit(process, resource.RLIMIT_NOFILE) == (hard, hard)
            service.process.send_signal(signal.SIGHUP)
            assert service.process.wait(30) == 0
            log = service.log.read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert log.count("stopped") == 2
    assert "Traceback" not in log


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGINT])
def test_the_next_interrupt_ends_it_at_once(tmp_path: Path, first: signal.Signals) -> None:
    with running(tmp_path, DRAIN_SECONDS="60") as service:
        service.process.send_signal(first)
        eventually(lambda: "stopping" in service.log.read_text())
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(10) == -signal.SIGINT


@pytest.mark.parametrize("symbol", ["UserService.GetMe", "UserService", "User", "User.email"])
def test_grpcurl_describes(service: Service, symbol: str) -> None:
    done = grpcurl(service, service.target, "describe", f"killrvideo.user.v1.{symbol}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"killrvideo.user.v1.{symbol} is a")


def test_calls_are_answered_while_it_drains(tmp_path: Path) -> None:
    """For DRAIN_SECONDS, health reports NOT_SERVING."""
    with running(tmp_path, DRAIN_SECONDS="2") as service, grpc.insecure_channel(service.target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        seen = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20)
        assert next(seen).status == health_pb2.HealthCheckResponse.SERVING
        service.process.send_signal(signal.SIGTERM)
        assert next(seen).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert UserServiceStub(channel).Register(registration(an_address())).user_id
        seen.cancel()
        assert service.process.wait(30) == 0


@pytest.mark.parametrize("changes", [{}, CERTIFICATE | {"TLS_CLIENT_CA_FILE": str(TLS / "certificate.pem")}])
def test_health_asks_how_the_service_listens(tmp_path: Path, changes: dict[str, str]) -> None:
    proxy = dict.fromkeys(["http_proxy", "https_proxy", "grpc_proxy", "all_proxy"], "http://127.0.0.1:9")
    changes = changes | {"GRPC_PORT": str(free_port())}
    with running(tmp_path, **changes):
        done = run(tmp_path, "health", **changes, **proxy)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(tmp_path, "health", **changes, **proxy)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


def test_health_fails_while_the_service_drains(tmp_path: Path) -> None:
    port = str(free_port())
    with running(tmp_path, DRAIN_SECONDS="60", GRPC_PORT=port) as service:
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in service.log.read_text())
        done = run(tmp_path, "health", GRPC_PORT=port)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"127.0.0.1:{port}: NOT_SERVING" in done.stderr


def test_health_says_which_client_certificate_it_needs(tmp_path: Path) -> None:
    ca = {"TLS_CLIENT_CA_FILE": str(TLS / "renewed" / "certificate.pem")}
    changes = CERTIFICATE | ca | {"GRPC_PORT": str(free_port())}
    with running(tmp_path, **changes):
        done = run(tmp_path, "health", **changes)
    assert (done.returncode, done.stdout) == (1, "")
    assert "TLS_CLIENT_CA_FILE must have signed" in done.stderr


def test_health_explains_wrong_settings(tmp_path: Path) -> None:
    for changes, message in (({"GRPC_PORT": "0"}, "GRPC_PORT is 0"), ({"GRPC_PORT": "none"}, "GRPC_PORT: ")):
        done = run(tmp_path, "health", **changes)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr


def query(folder: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(folder / "killrvideo.db")
    rows = connection.execute(statement).fetchall()
    connection.close()
    return rows
