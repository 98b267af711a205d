"""The spans of real calls, collected in memory: their tree, context propagation, and no data of callers."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from killrvideo.user.v1 import user_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.observability.metrics import Metrics
from killrvideo_grpc.observability.tracing import Tracing
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import DataApi
from tests.rpc.conftest import Account, Stub
from tests.support.accounts import an_address
from tests.support.calls import bearer, registration
from tests.support.eventually import eventually
from tests.support.keyspaces import prepared_fake
from tests.support.metrics import Scraped
from tests.support.ports import free_port
from tests.support.process import running
from tests.support.servers import running_server
from tests.support.settings import settings_in

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
PLANTED = "planted"
UNTRACED_METHODS = ("/grpc.health.v1.Health/Check", f"/{PLANTED}/X", f"/killrvideo.user.v1.UserService/{PLANTED}")


class Spans:
    """The exported spans."""

    def __init__(self, metrics: Instrumentation = NOOP) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self._exporter), metrics)

    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def of_call(self, rpc: str) -> ReadableSpan:
        """Wait until the span of the last call of an RPC has ended, and return it."""
        name = f"killrvideo.user.v1.UserService/{rpc}"
        return eventually(lambda: [span for span in self.all() if span.name == name])[-1]

    def below(self, parent: ReadableSpan) -> list[str]:
        return [span.name for span in self.all() if span.parent and span.parent.span_id == _id(parent)]


def _id(span: ReadableSpan) -> int:
    assert span.context
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> str:
    assert span.context
    return f"{span.context.trace_id:032x}"


def call(channel: Any, path: str) -> None:
    channel.unary_unary(path)(b"")


@contextmanager
def traced(folder: Path) -> Iterator[tuple[Stub, Spans, grpc.Channel]]:
    spans = Spans()
    with (
        running_server(settings_in(folder), instrumentation=spans.tracing) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        yield Stub(channel), spans, channel


def test_the_spans_of_a_login_form_a_tree(tmp_path: Path) -> None:
    with traced(tmp_path) as (stub, spans, _):
        account = Account(stub, tmp_path)
        login = spans.of_call("Login")
        assert login.kind is SpanKind.SERVER
        assert login.parent is None
        assert login.attributes == {
            "rpc.system": "grpc",
            "rpc.service": "killrvideo.user.v1.UserService",
            "rpc.method": "Login",
            "rpc.grpc.status_code": 0,
        }
        assert spans.below(login)[:4] == [
            *("store: find_credentials", "store: read_attempts"),
            *("wait to hash", "hash password"),
        ]
        with pytest.raises(grpc.RpcError):
            stub.Login(pb.LoginRequest(email=account.email, password="wrong"))
        eventually(lambda: (spans.of_call("Login").attributes or {})["rpc.grpc.status_code"] == 16)
        assert spans.of_call("Login").status.status_code is StatusCode.UNSET  # the caller's error


def test_the_callers_trace_is_continued(tmp_path: Path) -> None:
    with traced(tmp_path) as (stub, spans, _):
        stub.Register(
            registration(an_address()),
            metadata=(("traceparent", TRACEPARENT), ("tracestate", f"{PLANTED}=1")),
        )
        call = spans.of_call("Register")
        assert call.parent
        assert f"{call.parent.span_id:016x}" == PARENT
        assert {trace_of(span) for span in spans.all()} == {TRACE}


def test_the_trace_is_passed_on_to_the_data_api(tmp_path: Path) -> None:
    sent: list[str | None] = []
    spans = Spans(Metrics("astra", "127.0.0.1", 0))
    with prepared_fake() as (_, connection):
        api = DataApi(replace(connection, max_wait=2), spans.tracing)

        async def record(request: object) -> None:
            sent.append(request.headers.get("traceparent"))  # type: ignore[attr-defined]

        api._http.client.event_hooks["request"].append(record)
        with (
            running_server(settings_in(tmp_path), AstraStore(api), instrumentation=spans.tracing) as server,
            grpc.insecure_channel(server.target) as channel,
        ):
            stub = Stub(channel)
            stub.Register(
                registration(an_address()),
                metadata=(("traceparent", TRACEPARENT),),
            )
            below = spans.below(spans.of_call("Register"))
            account = Account(stub, tmp_path)
            stub.GetMe(pb.GetMeRequest(), metadata=account.metadata)
            assert spans.below(spans.of_call("GetMe")) == ["store: look up"]
    assert below.count("store: insert document") == 2
    inserts = [span for span in spans.all() if span.name == "store: insert document" and trace_of(span) == TRACE]
    assert {f"00-{TRACE}-{_id(span):016x}-01" for span in inserts} <= set(sent)


def test_traces_leave_the_metrics_as_they_are() -> None:
    port = free_port()

    async def scraped() -> Scraped:
        instrumentation = Spans(Metrics("astra", "127.0.0.1", port)).tracing
        instrumentation.start_export()
        with instrumentation.hash_wait(), instrumentation.password_hash(), instrumentation.store_request("find"):
            pass
        instrumentation.store_timeout("find")
        instrumentation.batch_sent(3)
        instrumentation.sweep_done(2)
        meter = instrumentation.call_meter("GetMe")
        assert meter
        meter.call_started()
        meter.call_ended("UNAUTHENTICATED", "TOKEN_INVALID", 0.1, None)
        seen = Scraped(port)
        await instrumentation.stop_export()
        return seen

    seen = asyncio.run(scraped())
    expected = {
        "hash_wait_seconds_count": 1,
        "hash_duration_seconds_count": 1,
        "store_request_duration_seconds_count": 1,
        "store_timeouts_total": 1,
        "joined_look_ups_sum": 3,
        "sweep_backlog": 2,
        "calls_total": 1,
        "refusals_total": 1,
    }
    assert {name: seen.value(name) for name in expected} == expected


def test_nothing_of_a_caller_is_in_a_span(tmp_path: Path) -> None:
    with traced(tmp_path) as (stub, spans, channel):
        account = Account(stub, tmp_path, password=f"{PLANTED}-password")
        metadata = (
            *bearer(account.login.token),
            *(("x-request-id", PLANTED), ("user-agent", PLANTED), ("baggage", f"{PLANTED}=1")),
            *(("traceparent", TRACEPARENT), ("tracestate", f"{PLANTED}={PLANTED}")),
        )
        stub.UpdateMe(pb.UpdateMeRequest(first_name=PLANTED, last_name=PLANTED), metadata=metadata)
        with pytest.raises(grpc.RpcError):
            stub.Login(pb.LoginRequest(email=f"{PLANTED}@example.org", password=PLANTED))
        with pytest.raises(grpc.RpcError):
            stub.GetUser(pb.GetUserRequest(user_id=PLANTED))
        taken = registration(account.email)
        with pytest.raises(grpc.RpcError):
            stub.Register(taken)
        for path in UNTRACED_METHODS[1:]:
            with pytest.raises(grpc.RpcError):
                call(channel, path)
        call(channel, UNTRACED_METHODS[0])
        spans.of_call("GetUser")
        exported = "".join(span.to_json() for span in spans.all())
    assert "EmailAlreadyRegistered" in exported
    own = (PLANTED, account.email, account.user_id, account.session_id, account.login.token, "exception", "Health")
    assert not [text for text in own if text in exported]


def test_the_collector_gets_spans_and_the_log_their_trace(tmp_path: Path) -> None:
    received: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, LOG_FORMAT="json") as service:
            with grpc.insecure_channel(service.target) as channel, pytest.raises(grpc.RpcError):
                Stub(channel).GetMe(pb.GetMeRequest(), metadata=(("traceparent", TRACEPARENT),))
            assert service.stop() == 0  # flushes the remaining spans
        collector.shutdown()
    (resource,) = received[0].resource_spans
    named = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert named["service.name"] == "killrvideo-grpc"
    (span,) = resource.scope_spans[0].spans
    assert span.name == "killrvideo.user.v1.UserService/GetMe"
    assert span.trace_id.hex() == TRACE
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert [line["trace_id"] for line in lines if line["event"] == "call"] == [TRACE]


def test_a_collector_that_is_down_delays_nothing(tmp_path: Path) -> None:
    with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", GRACE_PERIOD_SECONDS="0") as service:
        with grpc.insecure_channel(service.target) as channel, pytest.raises(grpc.RpcError):
            Stub(channel).GetMe(pb.GetMeRequest())
        service.process.terminate()
        assert service.process.wait(8) == 0
        assert "Traceback" not in service.log.read_text()
