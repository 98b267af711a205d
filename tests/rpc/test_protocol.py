"""The limits of the protocol: unknown methods, undecodable bytes, cancellation, deadlines, overload."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest

from tests.rpc.conftest import Account, Stub
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import Metadata, registration
from tests.support.errors import Failure, read_failure
from tests.support.eventually import eventually
from tests.support.hashing import CountingHasher
from tests.support.http2 import started_calls
from tests.support.stores import FlakyStore, undisturbed

Code = grpc.StatusCode
SERVICE = "/killrvideo.user.v1.UserService"


def raw(channel: grpc.Channel, path: str, body: bytes, metadata: Metadata | None = None) -> Failure:
    call: Any = channel.unary_unary(path)
    with pytest.raises(grpc.RpcError) as caught:
        call(body, metadata=metadata, timeout=10)
    return read_failure(caught.value)


@pytest.mark.parametrize("path", [f"{SERVICE}/Nothing", "/nobody.Service/GetMe", f"{SERVICE}/getme", "/"])
def test_an_unknown_method(grpc_channel: grpc.Channel, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    failure = raw(grpc_channel, path, b"", (("x-request-id", "of-this-call"),))
    assert (failure.code, failure.message, failure.request_id) == (
        Code.UNIMPLEMENTED,
        "Method not found!",
        "of-this-call",
    )
    line = eventually(lambda: capsys.readouterr().out)
    assert "code=UNIMPLEMENTED" in line
    assert "request_id=of-this-call" in line


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x05ab", b"not protobuf at all" * 100])
def test_bytes_that_are_not_a_message(grpc_channel: grpc.Channel, body: bytes) -> None:
    failure = raw(grpc_channel, f"{SERVICE}/Register", body)
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert failure.violations == {"": ["can't be decoded as the message of this method"]}
    assert failure.message == "The request can't be decoded as the message of this method"


def test_access_is_checked_before_bytes(grpc_channel: grpc.Channel) -> None:
    assert raw(grpc_channel, f"{SERVICE}/UpdateMe", b"\xff").code is Code.UNAUTHENTICATED


def test_a_message_over_the_limit(grpc_channel: grpc.Channel, capsys: pytest.CaptureFixture[str]) -> None:
    assert raw(grpc_channel, f"{SERVICE}/Register", b"\0" * (5 << 20)).code is Code.RESOURCE_EXHAUSTED
    line = eventually(lambda: capsys.readouterr().out)
    assert "/Register" in line
    assert "code=RESOURCE_EXHAUSTED" in line


def test_a_call_without_a_message(grpc_channel: grpc.Channel, account: Account) -> None:
    call: Any = grpc_channel.stream_unary(f"{SERVICE}/GetMe")
    with pytest.raises(grpc.RpcError) as caught:
        call(iter([]), timeout=10, metadata=account.metadata)
    failure = read_failure(caught.value)
    assert (failure.code, failure.violations) == (
        Code.INVALID_ARGUMENT,
        {"": ["is missing: this method takes one message"]},
    )


@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.CANCELLED])
def test_nothing_is_hashed_for_a_caller_who_has_left(
    grpc_stub: Stub,
    account: Account,
    store: FlakyStore,
    hasher: CountingHasher,
    capsys: pytest.CaptureFixture[str],
    code: grpc.StatusCode,
) -> None:
    before = len(hasher.costs)
    store.waiting.clear()
    store.go_on.clear()
    login: Any = grpc_stub.Login.future(LoginRequest(email=account.email, password=PASSWORD), timeout=1.5)
    assert store.waiting.wait(10)
    if code is Code.CANCELLED:
        login.cancel()
    assert login.code() is code
    grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)  # by now the server knows of the cancellation
    store.go_on.set()
    # Waits for the call's log line, which is the last thing that it does.
    eventually(lambda: "/Login" in capsys.readouterr().out)
    assert len(hasher.costs) == before


def test_get_me_reads_the_account_once(grpc_stub: Stub, account: Account, store: FlakyStore) -> None:
    before = store.reads
    grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)
    assert store.reads == before + 1


def test_all_lines_of_a_call_carry_its_id(
    grpc_stub: Stub, account: Account, store: FlakyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []

    def logged(text: str) -> bool:
        lines.extend(line for line in capsys.readouterr().out.splitlines() if text in line)
        return any("code=" in line for line in lines)  # a call's own line comes last, after its answer

    store.error = ValueError("planted")
    with pytest.raises(grpc.RpcError):
        grpc_stub.Login(
            LoginRequest(email=account.email, password=PASSWORD), metadata=(("x-request-id", "of-this-call"),)
        )
    store.error = None
    eventually(lambda: logged("of-this-call"))
    assert ["bug" in lines[0], "INTERNAL" in lines[1], len(lines)] == [True, True, 2]
    assert "planted" not in lines[0]  # the text of an exception may quote what the caller sent
    lines.clear()
    grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)
    assert eventually(lambda: logged(f"user_id={account.user_id}"))


def test_a_call_that_its_caller_cancels_is_logged_as_cancelled(
    grpc_stub: Stub, account: Account, store: FlakyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.waiting.clear()
    store.go_on.clear()
    login: Any = grpc_stub.Login.future(LoginRequest(email=account.email, password=PASSWORD))
    assert store.waiting.wait(10)
    login.cancel()
    assert eventually(lambda: "code=CANCELLED" in capsys.readouterr().out)
    store.go_on.set()


def test_a_call_that_reaches_its_deadline_is_logged_as_such(
    grpc_addr: str, account: Account, store: FlakyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Doesn't use grpcio's client, which would cancel the call at the same moment, in either order."""
    store.waiting.clear()
    store.go_on.clear()
    message = LoginRequest(email=account.email, password=PASSWORD).SerializeToString()
    port = int(grpc_addr.rpartition(":")[2])
    with started_calls(port, f"{SERVICE}/Login", message=message, timeout="1S"):
        assert store.waiting.wait(10)
        assert eventually(lambda: "code=DEADLINE_EXCEEDED" in capsys.readouterr().out)
    store.go_on.set()


def test_a_call_that_waits_for_something_cancelled_is_answered(
    grpc_stub: Stub, account: Account, store: FlakyStore
) -> None:
    """If grpcio handled this itself, the caller would wait forever."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    store.on_read = cancelled
    try:
        with pytest.raises(grpc.RpcError) as caught:
            grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata, timeout=20)
    finally:
        store.on_read = undisturbed
    assert read_failure(caught.value).code is Code.INTERNAL


@pytest.mark.parametrize("request_id", ["a", "Root=1-67891233-abcdef012345678912345678", "x" * 64])
def test_a_valid_request_id_is_returned(grpc_stub: Stub, request_id: str) -> None:
    metadata = (("x-request-id", request_id),)
    _, call = grpc_stub.Register.with_call(registration(an_address()), metadata=metadata)
    assert dict(call.trailing_metadata())["x-request-id"] == request_id
    with pytest.raises(grpc.RpcError) as caught:
        grpc_stub.GetMe(GetMeRequest(), metadata=metadata)
    assert read_failure(caught.value).request_id == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 65, f"kvs_planted_{'0' * 64}", "a b", 'a"b', "{}", "<script>"])
def test_an_odd_request_id_is_replaced(grpc_stub: Stub, request_id: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        grpc_stub.GetMe(GetMeRequest(), metadata=(("x-request-id", request_id),))
    made = read_failure(caught.value).request_id
    assert made
    assert made != request_id
    assert (str(UUID(made)), UUID(made).version) == (made, 4)


def test_many_callers_at_once(grpc_stub: Stub, account: Account) -> None:
    def call(number: int) -> str:
        return grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata, timeout=30).user_id

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(call, range(500))) == {account.user_id}
