"""gRPC calls that never reach the service, because Envoy refuses them with the contract's codes."""

import base64
from collections.abc import Iterator

import grpc
import httpx
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, RegisterRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.rest.conftest import Account, Edge, raw
from tests.rest.test_http2 import GRPC, SERVICE, Fields, Http2
from tests.support.errors import read_failure

GET_ME = f"{SERVICE}/GetMe"
NO_MESSAGE = b"\0\0\0\0\0"
TOO_LARGE = b"\0\0\x01\0\0" + b"x" * 65_536
WEB, WEB_TEXT = "application/grpc-web+proto", "application/grpc-web-text+proto"
INVALID = (str(grpc.StatusCode.INVALID_ARGUMENT.value[0]), "The request is malformed.")
LATE = (str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]), "The request did not arrive in time.")


@pytest.fixture
def stub(edge: Edge) -> Iterator[UserServiceStub]:
    with grpc.insecure_channel(edge.url.removeprefix("http://")) as channel:
        yield UserServiceStub(channel)


@pytest.fixture
def connection(edge: Edge) -> Iterator[Http2]:
    connection = Http2(edge)
    yield connection
    connection.close()


def status_of(fields: dict[str, str] | httpx.Headers) -> tuple[str, str]:
    return fields["grpc-status"], fields["grpc-message"]


def test_a_large_message(stub: UserServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Register(RegisterRequest(email="x" * 70_000))
    failure = read_failure(caught.value)
    assert (failure.code, failure.message) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "The message is larger than 64 KiB.",
    )


@pytest.mark.parametrize("values", [[64_600], [64_900], [65_200], [65_536], [100_000], [6_500] * 10])
def test_large_metadata_fails_no_other_call(
    connection: Http2, account: Account, stub: UserServiceStub, values: list[int]
) -> None:
    other = connection.open("POST", GET_ME, [*GRPC, *account.bearer.items()])
    metadata = [(f"x-{number}", "x" * size) for number, size in enumerate(values)]
    refused = connection.send("POST", GET_ME, GRPC + metadata, NO_MESSAGE)
    code = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert status_of(connection.answer(refused)[0]) == (code, "The metadata is larger than 63 KiB.")
    connection.finish(other, NO_MESSAGE)
    assert connection.answer(other)[2]["grpc-status"] == "0"


@pytest.mark.parametrize("values", [[63_000], [5_000] * 12])
def test_metadata_just_small_enough(stub: UserServiceStub, account: Account, values: list[int]) -> None:
    metadata = [(f"x-{number}", "x" * size) for number, size in enumerate(values)]
    assert stub.GetMe(GetMeRequest(), metadata=(*metadata, *account.bearer.items())).user_id == account.user_id


@pytest.mark.parametrize("fields", [[], [("grpc-timeout", "300m")]])
def test_a_late_message(connection: Http2, fields: Fields) -> None:
    assert status_of(connection.answer(connection.open("POST", GET_ME, GRPC + fields))[0]) == LATE


@pytest.mark.parametrize("fields", [[("x-problem-wanted", "true")], [("x-problem", "{}"), ("x-problem-status", "200")]])
def test_grpc_callers_cannot_request_problems(connection: Http2, fields: Fields) -> None:
    """The edge removes the header that requests problem documents if a caller sends it."""
    headers, _, trailers = connection.answer(connection.send("POST", GET_ME, GRPC + fields, NO_MESSAGE))
    answered = headers | trailers
    assert (answered["grpc-status"], answered["grpc-message"]) == ("16", "Not authenticated")
    assert "grpc-status-details-bin" in answered
    assert not [name for name in answered if name.startswith("x-problem")]


def test_callers_need_not_ask_for_trailers(connection: Http2) -> None:
    fields = [field for field in GRPC if field[0] != "te"]
    headers, _, trailers = connection.answer(connection.send("POST", GET_ME, fields, NO_MESSAGE))
    assert (headers | trailers)["grpc-status"] == "16"


def test_trailers_are_refused(connection: Http2) -> None:
    assert status_of(connection.answer(connection.send("POST", GET_ME, GRPC, NO_MESSAGE, [("x", "y")]))[0]) == INVALID


@pytest.mark.parametrize("value", ["%", "a b", "é"])
def test_binary_metadata_that_is_not_base64(connection: Http2, value: str) -> None:
    stream = connection.send("POST", GET_ME, [*GRPC, ("x-bin", value)], NO_MESSAGE)
    assert status_of(connection.answer(stream)[0]) == INVALID


@pytest.mark.parametrize("value", [b"", b"\0", b"\xff\xfe", b"abc"])
def test_binary_metadata(stub: UserServiceStub, account: Account, value: bytes) -> None:
    metadata: tuple[tuple[str, str | bytes], ...] = (("x-bin", value), ("x-bin", b"twice"), *account.bearer.items())
    assert stub.GetMe(GetMeRequest(), metadata=metadata).user_id == account.user_id


def test_an_unknown_compression(connection: Http2) -> None:
    stream = connection.send("POST", GET_ME, [*GRPC, ("grpc-encoding", "zstd")], NO_MESSAGE)
    code = str(grpc.StatusCode.UNIMPLEMENTED.value[0])
    assert status_of(connection.answer(stream)[0]) == (
        code,
        "Unsupported compression: only gzip and deflate are supported.",
    )


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_known_compressions(stub: UserServiceStub, compression: grpc.Compression) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Register(RegisterRequest(email="x" * 200), compression=compression)
    assert read_failure(caught.value).code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", ["application/grpc", WEB])
@pytest.mark.parametrize("line", [f"POST {GET_ME} HTTP/1.1", f"POST {GET_ME}#x HTTP/1.1"])
def test_requests_refused_before_routing_get_grpc_responses(edge: Edge, kind: str, line: str) -> None:
    status, headers, text = raw(edge, line, f"content-type: {kind}", "content-length: 0", has_host="#" in line)
    assert (status, headers["content-type"], text) == (200, kind, "")
    assert status_of(headers) == INVALID


@pytest.mark.parametrize("body", [b"!!!!", b"AAA", base64.b64encode(NO_MESSAGE) + b"!!!!"])
def test_web_text_that_is_not_base64(client: httpx.Client, body: bytes) -> None:
    answer = client.post(GET_ME, content=body, headers={"content-type": WEB_TEXT, "accept": WEB_TEXT})
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, WEB_TEXT, b"")
    assert status_of(answer.headers) == INVALID


@pytest.mark.parametrize("kind", [WEB, WEB_TEXT])
def test_a_large_message_over_grpc_web(client: httpx.Client, kind: str) -> None:
    body = base64.b64encode(TOO_LARGE) if kind == WEB_TEXT else TOO_LARGE
    answer = client.post(GET_ME, content=body, headers={"content-type": kind, "origin": "http://localhost:5173"})
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, WEB, b"")
    assert status_of(answer.headers) == ("8", "The message is larger than 64 KiB.")
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


def test_a_late_message_over_grpc_web(edge: Edge) -> None:
    headers = (f"content-type: {WEB}", "content-length: 5")
    status, answered, _ = raw(edge, f"POST {GET_ME} HTTP/1.1", *headers, body=b"\0")
    assert (status, status_of(answered)) == (200, LATE)
