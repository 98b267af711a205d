"""A worker is stopped under load, and its callers notice nothing."""

import json
import os
import signal
import sqlite3
from pathlib import Path

import grpc
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, UpdateMeRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.errors import read_failure
from tests.support.eventually import eventually
from tests.support.load import load
from tests.support.metrics import Scraped
from tests.support.ports import free_port
from tests.support.process import Service, children, running, wait_for_end

HEALTH_CHECKED = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "killrvideo.user.v1.UserService"},
    }
)


def balanced(service: Service) -> grpc.Channel:
    """Return a channel that balances over all workers whose health is SERVING."""
    addresses = ",".join(f"127.0.0.1:{port}" for port in service.ports)
    return grpc.insecure_channel(f"ipv4:{addresses}", [("grpc.service_config", HEALTH_CHECKED)])


def code_of(call: object, *arguments: object, **options: object) -> grpc.StatusCode:
    try:
        call(*arguments, **options)  # type: ignore[operator]
    except grpc.RpcError as error:
        return read_failure(error).code
    return grpc.StatusCode.OK


def test_no_call_fails_for_clients_that_check_health(tmp_path: Path) -> None:
    """Reads and writes go on while one of two workers stops."""
    with running(tmp_path, WORKERS="2", DRAIN_SECONDS="1") as service, balanced(service) as channel:
        stub, email = UserServiceStub(channel), an_address()
        stub.Register(registration(email), wait_for_ready=True)
        token = stub.Login(LoginRequest(email=email, password=PASSWORD)).token
        metadata = (("authorization", f"Bearer {token}"),)

        def read() -> grpc.StatusCode:
            return code_of(stub.GetMe, GetMeRequest(), metadata=metadata, timeout=20)

        def write() -> grpc.StatusCode:
            return code_of(stub.UpdateMe, UpdateMeRequest(first_name="Bea"), metadata=metadata, timeout=20)

        with load([read, read, write] * 3, grpc.StatusCode.OK, lambda: 0.01):
            worker = children(service.process.pid)[0]
            os.kill(worker, signal.SIGTERM)
            wait_for_end(worker)


def test_hashes_under_way_are_answered(tmp_path: Path) -> None:
    metrics = free_port()
    with (
        running(tmp_path, BCRYPT_ROUNDS="9", METRICS_PORT=str(metrics), GRACE_PERIOD_SECONDS="60") as service,
        grpc.insecure_channel(service.target) as channel,
    ):
        stub, email = UserServiceStub(channel), an_address()
        stub.Register(registration(email))
        logins = [stub.Login.future(LoginRequest(email=email, password=PASSWORD), timeout=60) for _ in range(6)]

        def under_way_or_answered() -> float:
            return Scraped(metrics).value("calls_in_flight", method="Login") + sum(login.done() for login in logins)

        eventually(lambda: under_way_or_answered() >= len(logins))
        assert service.stop() == 0
        assert [login.code() for login in logins] == [grpc.StatusCode.OK] * 6


def test_a_write_under_way_is_answered_or_not_done(tmp_path: Path) -> None:
    """The write waits for a lock that another program holds beyond the grace period."""
    metrics, email = free_port(), an_address()
    with (
        running(tmp_path, GRACE_PERIOD_SECONDS="0.3", METRICS_PORT=str(metrics)) as service,
        grpc.insecure_channel(service.target) as channel,
    ):
        holder = sqlite3.connect(tmp_path / "killrvideo.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        waiting = UserServiceStub(channel).Register.future(registration(email), timeout=30)
        eventually(lambda: Scraped(metrics).value("hash_duration_seconds_count") == 1)  # what follows is the write
        service.process.send_signal(signal.SIGTERM)
        assert waiting.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        holder.execute("ROLLBACK")
        assert service.process.wait(30) == 0
        found = holder.execute("SELECT count(*) FROM accounts WHERE claimed_email = ?", [email]).fetchone()
        holder.close()
        assert found == (0,)
