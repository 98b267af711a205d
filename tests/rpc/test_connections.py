"""Connections: their maximum age, the end of their streams, and clients that ping too often."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, ResponseReceived, TrailersReceived
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.server import listener
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.servers import running_server
from tests.support.settings import settings_in

Code = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING


def test_a_connection_that_reaches_its_age_ends_without_a_failed_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Health and reflection streams end after the last calls, and the channel reconnects by itself."""
    monkeypatch.setattr(listener, "CONNECTION_AGE_GRACE", 1)
    settings = settings_in(tmp_path, max_connection_age_seconds=1)
    with running_server(settings) as server, grpc.insecure_channel(server.target) as channel:
        stub, email = UserServiceStub(channel), an_address()
        health: Any = health_pb2_grpc.HealthStub(channel)
        seen = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(seen).status == SERVING
        questions: SimpleQueue[Any] = SimpleQueue()
        questions.put(reflection_pb2.ServerReflectionRequest(list_services=""))
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = reflection.ServerReflectionInfo(iter(questions.get, None), timeout=60)
        assert next(answers).list_services_response

        stub.Register(registration(email))
        token = stub.Login(LoginRequest(email=email, password=PASSWORD)).token
        started, calls = time.monotonic(), 0
        while seen.is_active() or answers.is_active() or calls <= 50:
            stub.GetMe(GetMeRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            calls += 1
            assert time.monotonic() - started < 60
        questions.put(None)
        assert (seen.code(), answers.code()) == (Code.UNAVAILABLE, Code.UNAVAILABLE)
        again = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(again).status == SERVING
        again.cancel()
    log = capsys.readouterr().out
    assert "] bug" not in log
    assert all(f"/{method} " in log for method in ("ServerReflectionInfo", "Watch"))  # so they have ended


def test_a_connection_may_last_for_ever(tmp_path: Path) -> None:
    names = [name for name, _ in listener.connection_options(settings_in(tmp_path, max_connection_age_seconds=0))]
    assert not any("age" in name for name in names)


def test_a_client_that_keeps_pinging_is_sent_away(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as server:
        for event in pings(server.port):
            if isinstance(event, ConnectionTerminated):
                assert event.error_code == ErrorCodes.ENHANCE_YOUR_CALM
                assert event.additional_data == b"too_many_pings"
                return
    pytest.fail("the connection is still there")


def test_a_header_that_grpcio_cannot_parse_fails_only_its_own_call(tmp_path: Path) -> None:
    """In an HPACK table, grpcio would keep it, and then fail all later calls that refer to its name there."""
    http2 = H2Connection(H2Configuration(client_side=True))
    http2.initiate_connection()
    headers = [(":method", "POST"), (":scheme", "http"), (":path", "/killrvideo.user.v1.UserService/GetMe")]
    headers += [(":authority", "x"), ("content-type", "application/grpc"), ("te", "trailers")]
    codes: dict[int, bytes] = {}
    with (
        running_server(settings_in(tmp_path)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        connection.sendall(http2.data_to_send())
        http2.receive_data(connection.recv(65536))  # the server's settings, to which the headers must keep
        for stream, timeout in enumerate(["zzz", "10S", "20S", "30S"]):
            http2.send_headers(2 * stream + 1, [*headers, ("grpc-timeout", timeout)])
            http2.send_data(2 * stream + 1, bytes(5), end_stream=True)
        connection.sendall(http2.data_to_send())
        while len(codes) < 4:
            for event in http2.receive_data(connection.recv(65536)):
                if isinstance(event, ResponseReceived | TrailersReceived) and event.stream_id:
                    codes.update((event.stream_id, value) for name, value in event.headers if name == b"grpc-status")
    assert codes == {1: b"13", 3: b"16", 5: b"16", 7: b"16"}  # INTERNAL, and UNAUTHENTICATED for lack of a token


def pings(port: int) -> Iterator[Event]:
    """Send 20 pings, each after the response to the previous one, and yield what the server sends."""
    http2 = H2Connection(H2Configuration(client_side=True))
    http2.initiate_connection()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for number in range(20):
            http2.ping(number.to_bytes(8, "big"))
            connection.sendall(http2.data_to_send())
            received = connection.recv(65536)
            if not received:
                return
            yield from http2.receive_data(received)
