"""Hypothesis feeds each RPC hostile text: every answer is one that the contract knows."""

from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, RegisterRequest, UpdateMeRequest

from tests.rpc.conftest import Account, Stub, bearer
from tests.support.errors import read_failure

Code = grpc.StatusCode

ODD = st.sampled_from(
    [
        "",
        "\0",
        "a\0b@example.org",
        "\u202egro.elpmaxe@bob",
        "\ufeffbob@example.org",
        "bob@example.org\r\nbcc: eve@example.org",
        "\ufdfa" * 60,
        "e" + "\u0301" * 500,
        "🏳️‍🌈" * 20,
        "' OR 1=1 --",
        '{"$ne": null}',
        "x" * 1_000_000,
        "ﷺ@example.org",
        "bob@[127.0.0.1]",
        '"b o b"@example.org',
        "%00%0a",
        "../../etc/passwd",
    ]
)
TEXT = st.text() | ODD | st.emails()
# Lone surrogates can be no str of protobuf's; on the wire they are bytes that are not UTF-8.
BYTES = (
    st.binary()
    | st.just(b"\x0a\x03\xed\xa0\x80")
    | st.builds(lambda text: b"\x0a" + bytes([len(text)]) + text, st.binary(max_size=100))
)

hostile = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(call: Any, request: object, *known: grpc.StatusCode, **options: object) -> None:
    try:
        call(request, timeout=30, **options)
    except grpc.RpcError as error:
        code = read_failure(error).code
        if code not in known:
            pytest.fail(f"{code} for {request!r:.500}")


@hostile
@given(email=TEXT, password=TEXT, first_name=TEXT, last_name=TEXT)
def test_register(grpc_stub: Stub, email: str, password: str, first_name: str, last_name: str) -> None:
    request = RegisterRequest(email=email, password=password, first_name=first_name, last_name=last_name)
    check(grpc_stub.Register, request, Code.INVALID_ARGUMENT, Code.ALREADY_EXISTS)


@hostile
@given(name=TEXT, password=st.text(min_size=8))
def test_register_with_one_odd_part(grpc_stub: Stub, name: str, password: str) -> None:
    request = RegisterRequest(
        email=f"{abs(hash(name))}@example.org", password=password, first_name=name, last_name="Lee"
    )
    check(grpc_stub.Register, request, Code.INVALID_ARGUMENT, Code.ALREADY_EXISTS)


@hostile
@given(email=TEXT, password=TEXT)
def test_login(grpc_stub: Stub, email: str, password: str) -> None:
    check(grpc_stub.Login, LoginRequest(email=email, password=password), Code.INVALID_ARGUMENT, Code.UNAUTHENTICATED)


@hostile
@given(first_name=st.none() | TEXT, last_name=st.none() | TEXT)
def test_update_me(grpc_stub: Stub, account: Account, first_name: str | None, last_name: str | None) -> None:
    request = UpdateMeRequest(first_name=first_name, last_name=last_name)
    check(grpc_stub.UpdateMe, request, Code.INVALID_ARGUMENT, metadata=account.metadata)


@hostile
@given(token=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=4000))
def test_tokens(grpc_stub: Stub, token: str) -> None:
    check(grpc_stub.GetMe, GetMeRequest(), Code.UNAUTHENTICATED, metadata=bearer(token))


@hostile
@given(body=BYTES)
@pytest.mark.parametrize("rpc", ["Register", "Login", "GetMe", "UpdateMe"])
def test_bytes(grpc_channel: grpc.Channel, account: Account, rpc: str, body: bytes) -> None:
    call: Any = grpc_channel.unary_unary(f"/killrvideo.user.v1.UserService/{rpc}")
    known = (Code.INVALID_ARGUMENT, Code.UNAUTHENTICATED)
    check(call, body, *known, metadata=account.metadata)


def test_megabytes_are_too_long_and_not_looked_at(grpc_stub: Stub) -> None:
    """The syntax rule would take most of a second for these, in which no other thread runs."""
    with pytest.raises(grpc.RpcError) as caught:
        grpc_stub.Register(RegisterRequest(email="a." * 1_900_000, password="x" * 8, first_name="Ann", last_name="Lee"))
    assert read_failure(caught.value).violations == {"email": ["must have at most 254 characters"]}
