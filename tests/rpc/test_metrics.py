"""The metrics of a running service count what happens, and contain nothing that callers sent."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from killrvideo.user.v1 import user_service_pb2 as pb

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import StoreUnavailable, UserNotFound
from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.observability.metrics import Metrics
from killrvideo_grpc.security.service_tokens import new_service_token
from killrvideo_grpc.service import sweeper
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import DataApi
from killrvideo_grpc.stores.data_api.errors import AlreadyExists, Conflict, CredentialsRefused, RequestRefused
from tests.rpc.conftest import Account, Stub
from tests.support import fake_data_api
from tests.support.calls import bearer, registration
from tests.support.eventually import eventually
from tests.support.keyspaces import prepared_fake
from tests.support.metrics import Scraped, StoreMetrics
from tests.support.ports import free_port
from tests.support.process import running
from tests.support.servers import running_server
from tests.support.services import added_to_file
from tests.support.settings import settings_in

PLANTED = "planted"


@contextmanager
def measured(folder: Path) -> Iterator[tuple[Settings, Stub, grpc.Channel]]:
    """Start the service with metrics, on SQLite."""
    settings = settings_in(folder, metrics_port=free_port())
    with running_server(settings) as server, grpc.insecure_channel(server.target) as channel:
        yield settings, Stub(channel), channel


def scrape(settings: Settings) -> Scraped:
    assert settings.metrics_port
    return Scraped(settings.metrics_port)


def refuse(call: Any, request: Any, **options: Any) -> None:
    with pytest.raises(grpc.RpcError):
        call(request, **options)


def test_calls_are_counted_by_method_and_code(tmp_path: Path) -> None:
    with measured(tmp_path) as (settings, stub, _):
        account = Account(stub, settings.sqlite_path)
        for _ in range(3):
            stub.GetMe(pb.GetMeRequest(), metadata=account.metadata)
        refuse(stub.GetMe, pb.GetMeRequest(), metadata=bearer("forged"))
        refuse(stub.GetMe, pb.GetMeRequest())
        refuse(stub.Login, pb.LoginRequest(email=account.email, password="wrong"))
        eventually(lambda: scrape(settings).value("calls_total", method="GetMe") == 5)
        seen = scrape(settings)
    assert seen.value("calls_total", method="GetMe", code="OK") == 3
    assert seen.value("calls_total", method="GetMe", code="UNAUTHENTICATED") == 2
    assert seen.value("call_duration_seconds_count", method="GetMe") == 5
    assert 0 < seen.value("call_duration_seconds_sum", method="GetMe") < 5
    assert seen.value("refusals_total", method="GetMe", reason="TOKEN_INVALID") == 1
    assert seen.value("refusals_total", method="GetMe", reason="NOT_AUTHENTICATED") == 1
    assert seen.value("refusals_total", method="Login", reason="INVALID_CREDENTIALS") == 1
    assert seen.value("calls_in_flight") == 0
    assert seen.value("hash_duration_seconds_count") == seen.value("hash_wait_seconds_count") == 3
    assert seen.value("hash_queue_length") == 0
    assert seen.value("store_request_duration_seconds_count", kind="register", outcome="ok") == 1
    assert seen.value("store_request_duration_seconds_count", kind="find_account", outcome="ok") == 3
    assert seen.value("build_info", store="sqlite") == 1
    assert "process_resident_memory_bytes" in seen.text


def test_calls_of_services_are_counted_by_their_names(tmp_path: Path) -> None:
    with measured(tmp_path) as (settings, stub, _):
        token = added_to_file(settings.sqlite_path, Grant.CHECK_TOKENS)
        actor = f"service:{token.split('_')[1]}"
        stub.CheckTokens(pb.CheckTokensRequest(tokens=["x"]), metadata=bearer(token))
        refuse(stub.GetMe, pb.GetMeRequest(), metadata=bearer(token))
        refuse(stub.CheckTokens, pb.CheckTokensRequest(), metadata=bearer(token))
        refuse(stub.CheckTokens, pb.CheckTokensRequest(), metadata=bearer(new_service_token(PLANTED)))
        eventually(lambda: scrape(settings).value("calls_total", method="CheckTokens") == 3)
        seen = scrape(settings)
    assert seen.value("service_calls_total", service=actor, method="CheckTokens") == 2
    assert seen.value("refusals_total", method="GetMe", reason="GRANT_REQUIRED") == 1
    assert PLANTED not in seen.text


def test_calls_and_hashes_under_way_are_seen(tmp_path: Path) -> None:
    """40 logins at a high cost: most of them wait."""
    settings = settings_in(tmp_path, metrics_port=free_port(), bcrypt_rounds=10)
    with running_server(settings) as server, grpc.insecure_channel(server.target) as channel:
        logins = [Stub(channel).Login.future(pb.LoginRequest(email="a@b.org", password="x")) for _ in range(40)]
        eventually(lambda: scrape(settings).value("hash_queue_length") > 20)
        assert scrape(settings).value("calls_in_flight", method="Login") > 20
        for login in logins:
            login.cancel()
        eventually(lambda: scrape(settings).value("calls_in_flight", method="Login") == 0)
        assert scrape(settings).value("hash_queue_length") == 0
        eventually(lambda: scrape(settings).value("calls_total", method="Login", code="CANCELLED") >= 20)


def test_event_loop_lag_is_seen(tmp_path: Path) -> None:
    with measured(tmp_path) as (settings, *_):
        eventually(lambda: scrape(settings).value("loop_lag_seconds_count") > 2)


def test_sweeps_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "MIN_SECONDS", 0.01)
    monkeypatch.setattr(sweeper, "MAX_SECONDS", 0.01)
    with measured(tmp_path) as (settings, *_):
        eventually(lambda: scrape(settings).value("sweeps_total", outcome="ok") > 1)
        assert "killrvideo_sweep_backlog 0.0" in scrape(settings).text


def test_metrics_contain_nothing_that_callers_sent(tmp_path: Path) -> None:
    with measured(tmp_path) as (settings, stub, channel):
        email, password = f"{PLANTED}@example.org", f"{PLANTED}-password"
        names = {"first_name": PLANTED, "last_name": PLANTED}
        stub.Register(pb.RegisterRequest(email=email, password=password, **names))
        login = stub.Login(pb.LoginRequest(email=email, password=password))
        own = (
            *bearer(login.token),
            ("x-request-id", PLANTED),
            ("user-agent", PLANTED),
            ("traceparent", PLANTED),
        )
        stub.GetMe(pb.GetMeRequest(), metadata=own)
        refuse(stub.Login, pb.LoginRequest(email=email, password=PLANTED))
        refuse(stub.GetUser, pb.GetUserRequest(user_id=PLANTED))
        service = "/killrvideo.user.v1.UserService"
        for path in (f"/{PLANTED}/Method", f"{service}/{PLANTED}", f"{service}/GetMe?a=b"):
            refuse(channel.unary_unary(path), b"")
        eventually(lambda: scrape(settings).value("calls_total", method="unknown", code="UNIMPLEMENTED") == 3)
        text = scrape(settings).text
    for own_text in (PLANTED, login.user.user_id, login.token, "example.org", "a=b", "UserService"):
        assert own_text not in text
    methods = set(re.findall(r'method="([^"]*)"', text))
    assert methods == {"Register", "Login", "GetMe", "GetUser", "unknown"}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AlreadyExists(), "ok"),
        (UserNotFound(), "ok"),
        (Conflict(), "conflict"),
        (CredentialsRefused(), "unavailable"),
        (StoreUnavailable(), "unavailable"),
        (RequestRefused("X"), "refused"),
        (asyncio.CancelledError(), "abandoned"),
        (ValueError(), "failed"),
    ],
)
def test_requests_to_a_store_have_an_outcome(error: BaseException, outcome: str) -> None:
    metrics = StoreMetrics("astra")
    with suppress(type(error)), metrics.store_request("find document"):
        raise error
    assert asyncio.run(metrics.scraped()).value("store_request_duration_seconds_count", outcome=outcome) == 1


@contextmanager
def on_data_api(folder: Path) -> Iterator[tuple[Settings, Stub, fake_data_api.FakeDataApi]]:
    port = free_port()
    settings = settings_in(folder, metrics_port=port)
    metrics = Metrics("astra", "127.0.0.1", port)
    with prepared_fake() as (fake, connection):
        store = AstraStore(DataApi(replace(connection, max_wait=3), metrics))
        with (
            running_server(settings, store, instrumentation=metrics) as server,
            grpc.insecure_channel(server.target) as channel,
        ):
            yield settings, Stub(channel), fake


def test_requests_to_a_data_api_are_seen(tmp_path: Path) -> None:
    with on_data_api(tmp_path) as (settings, stub, fake):
        account = Account(stub, tmp_path)
        refuse(stub.Register, registration(account.email))
        # The first two look-ups are sent immediately. While they are in progress, the others are collected.
        fake.fail(fake_data_api.Delay(2), command="findOne", times=2)
        for call in [stub.GetMe.future(pb.GetMeRequest(), metadata=account.metadata) for _ in range(100)]:
            call.result()
        seen = scrape(settings)
        request = "store_request_duration_seconds_count"
        assert seen.value(request, kind="insert document", outcome="ok") >= 2
        assert seen.value(request, kind="find document", outcome="ok") >= 2
        assert seen.value("joined_look_ups_sum") >= 100
        assert 1 <= seen.value("joined_look_ups_count") < 50
        fake.fail(fake_data_api.Hang(), command="findOne")
        refuse(stub.GetMe, pb.GetMeRequest(), metadata=account.metadata)
        eventually(lambda: scrape(settings).value("store_timeouts_total") > 0)
        seen = scrape(settings)
        assert seen.value(request, outcome="abandoned") > 0
        assert seen.value("refusals_total", method="GetMe", reason="STORE_UNAVAILABLE") == 1
        assert str(fake.url) not in seen.text


def test_each_worker_has_its_own_metrics(tmp_path: Path) -> None:
    first = free_port(2)
    with running(tmp_path, WORKERS="2", METRICS_PORT=str(first)) as service:
        for port in service.ports:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                refuse(Stub(channel).GetMe, pb.GetMeRequest())
        for port in (first, first + 1):  # a call is counted after its caller has the answer
            eventually(lambda port=port: Scraped(port).value("calls_total", method="GetMe") == 1)  # type: ignore[misc]
        assert f"http://127.0.0.1:{first}/metrics, http://127.0.0.1:{first + 1}/metrics" in service.banner


def test_a_taken_port_stops_the_start(tmp_path: Path) -> None:
    with measured(tmp_path) as (settings, *_):
        log = tmp_path / "service.log"
        with suppress(AssertionError), running(tmp_path, METRICS_PORT=str(settings.metrics_port)):
            pytest.fail("it started")
        assert f"Can't listen on 127.0.0.1:{settings.metrics_port} for metrics" in log.read_text()
        assert "Traceback" not in log.read_text()


def test_without_the_setting_nothing_is_imported(tmp_path: Path) -> None:
    code = "import sys, killrvideo_grpc.server.bootstrap; print({name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert "killrvideo_grpc" in loaded
    assert "prometheus_client" not in loaded
    assert "opentelemetry" not in loaded
