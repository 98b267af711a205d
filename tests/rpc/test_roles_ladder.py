"""The access option on a test service with one RPC per role, called through the real interceptors."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2
from google.protobuf.empty_pb2 import Empty
from killrvideo.user.v1 import access_pb2

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.rpc.interceptors.authorization import GRANTS, AuthorizationInterceptor, access_table
from killrvideo_grpc.rpc.interceptors.chain import InterceptorChain
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor
from killrvideo_grpc.server.bootstrap import ServerParts
from killrvideo_grpc.service.authentication import ClientInfo
from killrvideo_grpc.service.moderation import Operators
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import bearer
from tests.support.errors import read_failure
from tests.support.loops import LoopThread

RUNGS = {"Open": "PUBLIC", "View": "VIEWER", "Create": "CREATOR", "Moderate": "MODERATOR"}


def describe(name: str, accesses: dict[str, int | None], grants: dict[str, int] | None = None) -> Any:
    """Describe a service with one RPC from Empty to Empty per access value; None omits the option."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="tests", syntax="proto3")
    file.dependency.extend([access_pb2.DESCRIPTOR.name, empty_pb2.DESCRIPTOR.name])
    service = file.service.add(name=name)
    for rpc, access in accesses.items():
        empty = ".google.protobuf.Empty"
        method = service.method.add(name=rpc, input_type=empty, output_type=empty)
        if access is not None:
            method.options.Extensions[access_pb2.access] = access_pb2.Access.ValueType(access)
        if rpc in (grants or {}):
            method.options.Extensions[access_pb2.grant] = access_pb2.Grant.ValueType((grants or {})[rpc])
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName(f"tests.{name}")


LADDER = describe("Ladder", {rpc: access_pb2.Access.Value(f"ACCESS_{access}") for rpc, access in RUNGS.items()})


@pytest.fixture(scope="module")
def grpc_interceptors(parts: ServerParts) -> InterceptorChain:
    access = AuthorizationInterceptor(access_table([LADDER], public=[]), parts.authenticator.authenticate)
    return InterceptorChain([ErrorsInterceptor(), access])


@pytest.fixture(scope="module")
def grpc_servicer() -> Any:
    async def answer(request: Any, context: Any) -> Empty:
        return Empty()

    return grpc.unary_unary_rpc_method_handler(answer, Empty.FromString, Empty.SerializeToString)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[[Any, grpc.Server], None]:
    def add(handler: Any, server: grpc.Server) -> None:
        # Undeclared is served but missing from the access table, as after a mistake in the composition.
        methods = dict.fromkeys([*RUNGS, "Undeclared"], handler)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(LADDER.full_name, methods),))

    return add


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (
            [Role.VIEWER],
            {"Open": None, "View": None, "Create": "['creator', 'moderator']", "Moderate": "['moderator']"},
        ),
        ([Role.CREATOR], {"Open": None, "View": None, "Create": None, "Moderate": "['moderator']"}),
        ([Role.MODERATOR], {"Open": None, "View": None, "Create": None, "Moderate": None}),
        ([Role.VIEWER, Role.CREATOR], {"Open": None, "View": None, "Create": None, "Moderate": "['moderator']"}),
    ],
)
def test_roles_may_call_their_rpcs_and_those_below(
    grpc_channel: grpc.Channel,
    parts: ServerParts,
    operators: Operators,
    loop: LoopThread,
    roles: list[Role],
    expected: dict[str, str | None],
) -> None:
    email, token = a_viewer(parts, loop)  # issued to a viewer, but the account's current roles decide
    for role in roles:
        loop.run(operators.assign_role(email, role))
    if Role.VIEWER not in roles:
        loop.run(operators.revoke_role(email, Role.VIEWER))
    for rpc, missing in expected.items():
        message = missing and f"User does not have required roles: {missing}"
        assert call(grpc_channel, rpc, token) == message, rpc


def test_a_demotion_takes_effect_at_the_next_call(
    grpc_channel: grpc.Channel, parts: ServerParts, operators: Operators, loop: LoopThread
) -> None:
    email, token = a_viewer(parts, loop)
    loop.run(operators.assign_role(email, Role.MODERATOR))
    assert call(grpc_channel, "Moderate", token) is None
    loop.run(operators.revoke_role(email, Role.MODERATOR, force=True))
    assert call(grpc_channel, "Moderate", token) == "User does not have required roles: ['moderator']"


def a_viewer(parts: ServerParts, loop: LoopThread) -> tuple[str, str]:
    """Register an account and log it in; return its address and token."""
    email, origin = an_address(), ClientInfo()
    loop.run(parts.accounts.register(email, PASSWORD, "Ann", "Lee", origin))
    return email, loop.run(parts.accounts.login(email, PASSWORD, origin)).token


def test_an_undeclared_rpc_is_denied(grpc_channel: grpc.Channel) -> None:
    assert call(grpc_channel, "Undeclared", "x") == "An unexpected internal server error occurred."


@pytest.mark.parametrize("access", [None, 0, 99])
def test_an_rpc_without_a_valid_access_option_is_refused(access: int | None) -> None:
    service = describe(f"Gap{access}", {"Fine": 1, "Open": access, "Shut": access})
    with pytest.raises(SetupError, match=rf"tests\.Gap{access}\.Open, tests\.Gap{access}\.Shut"):
        access_table([service], public=[])


@pytest.mark.parametrize(
    ("access", "grant"),
    [
        ("SERVICE", None),
        ("SERVICE", 0),
        ("SERVICE", 99),
        ("VIEWER", 99),
        ("PUBLIC", access_pb2.GRANT_CHECK_TOKENS),
        ("UNSPECIFIED", access_pb2.GRANT_CHECK_TOKENS),
    ],
)
def test_an_rpc_without_a_valid_grant_is_refused(access: str, grant: int | None) -> None:
    accesses: dict[str, int | None] = {"Fine": 1, "Shut": access_pb2.Access.Value(f"ACCESS_{access}")}
    service = describe(f"Grant{access}{grant}", accesses, {} if grant is None else {"Shut": grant})
    with pytest.raises(SetupError, match=rf"tests\.Grant{access}{grant}\.Shut$"):
        access_table([service], public=[])


def test_every_grant_of_the_contract_is_known() -> None:
    assert GRANTS.keys() == set(access_pb2.Grant.values())
    assert {grant for grant in GRANTS.values() if grant} == set(Grant)


def call(channel: grpc.Channel, rpc: str, token: str) -> str | None:
    """Call an RPC of the ladder and return the message it fails with, or None."""
    method = channel.unary_unary(f"/{LADDER.full_name}/{rpc}", Empty.SerializeToString, Empty.FromString)
    try:
        method(Empty(), metadata=bearer(token))
    except grpc.RpcError as error:
        return read_failure(error).message
    return None
