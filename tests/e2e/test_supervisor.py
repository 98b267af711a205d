"""WORKERS: several processes under a supervisor, crashes of workers, and signals while they start."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.eventually import eventually
from tests.support.process import COMMAND, Service, children, environment, run, running, wait_for_end


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("workers"), WORKERS="2") as service:
        yield service
        assert service.stop() == 0


def test_workers_have_ports_in_a_row_and_one_set_of_accounts(service: Service) -> None:
    assert service.ports[1] == service.ports[0] + 1
    with ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}")) for port in service.ports]
        first, second = map(UserServiceStub, channels)
        email = an_address()
        first.Register(registration(email))
        token = second.Login(LoginRequest(email=email, password=PASSWORD)).token
        assert first.GetMe(GetMeRequest(), metadata=(("authorization", f"Bearer {token}"),)).email == email


def test_a_worker_that_dies_is_replaced(service: Service) -> None:
    workers = children(service.process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    wait_for_end(workers[0])
    for port in service.ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = UserServiceStub(channel).Register
            call(registration(an_address()), wait_for_ready=True, timeout=60)
    assert workers[0] not in children(service.process.pid)


def test_health_needs_one_worker_that_serves(service: Service, tmp_path: Path) -> None:
    worker = children(service.process.pid)[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        assert run(tmp_path, "health", GRPC_PORT=str(service.ports[0]), WORKERS="2").returncode == 0
    finally:
        os.kill(worker, signal.SIGCONT)


def test_no_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2") as service:
        workers = children(service.process.pid)
        service.process.kill()
        service.process.wait(10)
    for worker in workers:
        wait_for_end(worker)


def starting(folder: Path) -> "tuple[subprocess.Popen[str], list[int]]":
    """Start two workers in a new process group, as a shell would, and return before they serve."""
    process = subprocess.Popen(
        [COMMAND, "serve"],
        env=environment(folder, WORKERS="2", DRAIN_SECONDS="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    eventually(lambda: len(children(process.pid)) == 2)
    return process, children(process.pid)


def test_it_can_be_stopped_while_a_worker_does_not_come_up(tmp_path: Path) -> None:
    process, workers = starting(tmp_path)
    with process:
        os.kill(workers[0], signal.SIGSTOP)
        process.terminate()
        wait_for_end(workers[1])  # it is stopped although the first one has not started
        os.kill(workers[0], signal.SIGCONT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors


def test_ctrl_c_during_the_start_ends_it_in_order(tmp_path: Path) -> None:
    process, _ = starting(tmp_path)
    with process:
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors
