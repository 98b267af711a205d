"""Hypothesis sends hostile text to each RPC, and every error is one that the contract lists."""

from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from killrvideo.user.v1.user_service_pb2 import (
    CheckTokensRequest,
    GetMeRequest,
    RefreshTokenRequest,
    RegisterRequest,
)

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.server.grpc_server import CONTRACT
from tests.rpc.conftest import Account, Stub
from tests.rpc.requests import FOR_SERVICES, RPCS, empower, grant_for, metadata_for
from tests.support.calls import bearer
from tests.support.errors import read_failure
from tests.support.services import added_to_file
from tests.support.settings import settings_in

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
# Strategies by field type. A new type in the contract needs an entry here, or the tests fail.
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
}
# protobuf rejects lone surrogates in a str; on the wire, they are bytes that are not valid UTF-8.
BYTES = (
    st.binary()
    | st.just(b"\x0a\x03\xed\xa0\x80")
    | st.builds(lambda text: b"\x0a" + bytes([len(text)]) + text, st.binary(max_size=100))
)

hostile = settings(max_examples=40)
hostile_to_each_rpc = settings(max_examples=15)

# The statuses that the contract allows for each RPC in these tests, besides OK and INVALID_ARGUMENT.
CREDENTIALS = {"Login", "RefreshToken", "ChangePassword", "ChangeEmail", "ResetPassword", "DeleteMe"}


@pytest.fixture(scope="module", name="settings")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Disables throttling, so that all attempts reach the account instead of being refused after some."""
    folder = tmp_path_factory.mktemp("rpc")
    return settings_in(folder, max_failures_per_account=0, max_failures_per_account_and_source=0)


@pytest.fixture(scope="module")
def service_tokens(settings: Settings, store: object) -> dict[Grant, str]:
    return {grant: added_to_file(settings.sqlite_path, grant) for grant in Grant}


def code_of(call: Any, request: object, **options: Any) -> grpc.StatusCode:
    try:
        call(request, timeout=30, **options)
    except grpc.RpcError as error:
        return read_failure(error).code
    return Code.OK


def known(rpc: str) -> set[grpc.StatusCode]:
    others = {"Register": Code.ALREADY_EXISTS, "CreatePasswordReset": Code.NOT_FOUND}
    others |= dict.fromkeys(CREDENTIALS, Code.UNAUTHENTICATED)
    return {Code.OK, Code.INVALID_ARGUMENT, others.get(rpc, Code.OK)}


def messages(rpc: str) -> st.SearchStrategy[Message]:
    """Generate requests of an RPC, with hostile values in the contract's fields."""
    kind = message_factory.GetMessageClass(CONTRACT.methods_by_name[rpc].input_type)
    fields = {
        field.name: st.lists(VALUES[field.type]) if field.is_repeated else VALUES[field.type]
        for field in kind.DESCRIPTOR.fields
    }
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: kind(**values))


@hostile_to_each_rpc
@given(data=st.data())
@pytest.mark.parametrize("rpc", RPCS)
def test_messages(grpc_stub: Stub, account: Account, rpc: str, data: st.DataObject) -> None:
    empower(account, rpc)
    request = data.draw(messages(rpc))
    code = code_of(getattr(grpc_stub, rpc), request, metadata=metadata_for(rpc, account))
    assert code in known(rpc), f"{code} for {request!r:.500}"
    if code is Code.OK and rpc == "Logout":
        account.metadata = bearer(account.log_in().token)


@hostile
@given(name=TEXT, password=st.text(min_size=8))
def test_register_with_one_odd_part(grpc_stub: Stub, name: str, password: str) -> None:
    request = RegisterRequest(
        email=f"{abs(hash(name))}@example.org", password=password, first_name=name, last_name="Lee"
    )
    assert code_of(grpc_stub.Register, request) in known("Register")


@hostile
@given(token=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=4000))
def test_tokens(grpc_stub: Stub, token: str) -> None:
    assert code_of(grpc_stub.GetMe, GetMeRequest(), metadata=bearer(token)) is Code.UNAUTHENTICATED
    request = RefreshTokenRequest(refresh_token=token)
    assert code_of(grpc_stub.RefreshToken, request) in {Code.UNAUTHENTICATED, Code.INVALID_ARGUMENT}


@hostile
@given(token=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200))
def test_service_tokens(grpc_stub: Stub, token: str) -> None:
    metadata = bearer(f"kvs_{token}")
    assert code_of(grpc_stub.CheckTokens, CheckTokensRequest(tokens=["x"]), metadata=metadata) is Code.UNAUTHENTICATED


@hostile_to_each_rpc
@given(data=st.data())
@pytest.mark.parametrize("rpc", FOR_SERVICES)
def test_messages_of_services(grpc_stub: Stub, service_tokens: dict[Grant, str], rpc: str, data: st.DataObject) -> None:
    grant = grant_for(rpc)
    assert grant
    request = data.draw(messages(rpc))
    code = code_of(getattr(grpc_stub, rpc), request, metadata=bearer(service_tokens[grant]))
    assert code in known(rpc), f"{code} for {request!r:.500}"


@hostile_to_each_rpc
@given(body=BYTES)
@pytest.mark.parametrize("rpc", RPCS)
def test_bytes(grpc_channel: grpc.Channel, account: Account, rpc: str, body: bytes) -> None:
    empower(account, rpc)
    call: Any = grpc_channel.unary_unary(f"/{CONTRACT.full_name}/{rpc}")
    code = code_of(call, body, metadata=metadata_for(rpc, account))
    assert code in known(rpc)
    if code is Code.OK and rpc == "Logout":
        account.metadata = bearer(account.log_in().token)


def test_the_syntax_of_too_long_addresses_is_not_checked(grpc_stub: Stub) -> None:
    """The syntax rule would take almost a second for these, and block the event loop."""
    with pytest.raises(grpc.RpcError) as caught:
        grpc_stub.Register(RegisterRequest(email="a." * 1_900_000, password="x" * 8, first_name="Ann", last_name="Lee"))
    assert read_failure(caught.value).violations == {"email": ["must have at most 254 characters"]}


def violations_of(channel: grpc.Channel, rpc: str, body: bytes, metadata: Any = None) -> list[str]:
    call: Any = channel.unary_unary(f"/{CONTRACT.full_name}/{rpc}")
    with pytest.raises(grpc.RpcError) as caught:
        call(body, metadata=metadata, timeout=30)
    return list(read_failure(caught.value).violations)


def test_of_a_list_that_is_too_long_few_elements_are_checked(grpc_channel: grpc.Channel, account: Account) -> None:
    found = violations_of(grpc_channel, "BatchGetUsers", b"\x0a\x00" * 100_000, account.metadata)
    assert found[:3] == ["userIds", "userIds[0]", "userIds[1]"]
    assert len(found) <= 102


def test_text_in_another_encoding_is_one_violation(grpc_channel: grpc.Channel, account: Account) -> None:
    assert violations_of(grpc_channel, "Login", b"\x0a\x01\xff" * 1000) == ["email"]
    ids = b"\x0a\x01x" + b"\x0a\x01\xff" * 1000
    assert violations_of(grpc_channel, "BatchGetUsers", ids, account.metadata) == ["userIds[1]"]


def test_large_messages_are_not_searched_for_the_field(grpc_channel: grpc.Channel) -> None:
    assert violations_of(grpc_channel, "Login", b"\x0a\x01\xff" * 100_000) == [""]
