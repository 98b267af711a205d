"""Envoy's check of who makes a request, as the service answers it."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from killrvideo.envoy import auth_service_pb2 as pb
from killrvideo.envoy.auth_service_pb2_grpc import AuthorizationStub, add_AuthorizationServicer_to_server
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server

from killrvideo_grpc.domain.errors import Overloaded, StoreUnavailable
from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.errors.table import TABLE
from killrvideo_grpc.rpc.ext_authz_servicer import ExtAuthzServicer
from killrvideo_grpc.server.bootstrap import ServerParts
from killrvideo_grpc.server.grpc_server import EXT_AUTHZ
from tests.rpc.conftest import Account
from tests.rpc.test_access import ENDED, GONE, INVALID, NOT_AUTHENTICATED, TOKENS
from tests.rpc.test_service_access import FOR_PEOPLE
from tests.support.calls import check_request
from tests.support.errors import read_failure
from tests.support.metrics import Scraped
from tests.support.ports import free_port
from tests.support.servers import running_server
from tests.support.services import added_to_file
from tests.support.settings import settings_in
from tests.support.stores import FlakyStore, undisturbed

STATUSES = {spec.reason: spec.status for spec in TABLE.values()}


@pytest.fixture(scope="module")
def grpc_add_to_server(parts: ServerParts) -> Callable[[Any, Any], None]:
    def add(servicer: Any, server: Any) -> None:
        add_UserServiceServicer_to_server(servicer, server)
        add_AuthorizationServicer_to_server(ExtAuthzServicer(parts.authenticator), server)

    return add


@pytest.fixture
def stub(grpc_channel: grpc.Channel) -> AuthorizationStub:
    return AuthorizationStub(grpc_channel)


def set_headers(headers: Any) -> dict[str, str]:
    """Return the headers of a response, which must replace the caller's."""
    assert {each.append_action for each in headers} == {pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD}
    return {each.header.key: each.header.value for each in headers}


def denial(response: pb.CheckResponse) -> tuple[grpc.StatusCode, str, str]:
    """Return code, reason and message of a denial, whose parts must agree."""
    headers = set_headers(response.denied_response.headers)
    problem = json.loads(headers["x-problem"])
    code = next(code for code in grpc.StatusCode if code.value[0] == response.status.code)
    status = STATUSES[problem["code"]]
    assert (problem["status"], headers["x-problem-status"], response.denied_response.status.code) == (
        *(status, str(status), status),
    )
    assert headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert not response.HasField("ok_response")
    return code, problem["code"], problem["detail"]


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_passes_exactly_when_a_call_with_it_is_accepted(
    stub: AuthorizationStub, account: Account, kind: str
) -> None:
    make, expected = TOKENS[kind]
    values = [str(value) for _, value in make(account)]
    response = stub.Check(check_request(",".join(values) if values else None))  # as Envoy joins headers
    if expected:
        assert denial(response) == (ENDED if expected == GONE else expected)
    else:
        assert response.status.code == 0
        assert set_headers(response.ok_response.headers) == {
            "x-user-id": account.user_id,
            "x-user-roles": "viewer",
            "x-session-id": account.session_id,
        }


def test_the_highest_role_is_the_last(stub: AuthorizationStub, account: Account) -> None:
    for count in range(1, 4):
        for roles in itertools.permutations(("viewer", "creator", "moderator"), count):
            account.change("roles", str(list(roles)).replace("'", '"'))
            headers = set_headers(stub.Check(check_request(f"Bearer {account.login.token}")).ok_response.headers)
            ladder = [role for role in ("viewer", "creator", "moderator") if role in roles]
            assert headers["x-user-roles"] == ",".join(ladder)


def test_services_are_denied(stub: AuthorizationStub, account: Account) -> None:
    for grants in ([], [*Grant]):
        token = added_to_file(account.database, *grants)
        assert denial(stub.Check(check_request(f"Bearer {token}"))) == FOR_PEOPLE
    assert denial(stub.Check(check_request(f"Bearer {token[:-1]}"))) == INVALID


def test_the_token_of_the_call_itself_does_not_count(stub: AuthorizationStub, account: Account) -> None:
    for request in (pb.CheckRequest(), check_request(None), check_request("")):
        assert denial(stub.Check(request, metadata=account.metadata)) == NOT_AUTHENTICATED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable(), grpc.StatusCode.UNAVAILABLE),
        (Overloaded(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (ValueError("planted"), grpc.StatusCode.INTERNAL),
    ],
)
def test_a_check_that_fails_decides_nothing(
    stub: AuthorizationStub, account: Account, store: FlakyStore, error: Exception, code: grpc.StatusCode
) -> None:
    """Envoy refuses the request then."""

    async def fail() -> None:
        raise error

    store.on_read = fail
    try:
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(check_request(f"Bearer {account.login.token}"))
    finally:
        store.on_read = undisturbed
    assert read_failure(caught.value).code == code


def test_denials_are_logged_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port, method = free_port(), f"{EXT_AUTHZ.full_name}/Check"
    with (
        running_server(settings_in(tmp_path, metrics_port=port)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        account = Account(UserServiceStub(channel), tmp_path / "killrvideo.db")
        check = AuthorizationStub(channel).Check
        for text in (f"Bearer {account.login.token}", "Basic x", "Bearer x", "Bearer y"):
            check(check_request(text), metadata=(("x-request-id", "of-the-request"),))
        scraped = Scraped(port)
    assert scraped.value("calls_total", method=method, code="OK") == 4
    assert scraped.value("refusals_total", method=method, reason="TOKEN_INVALID") == 2
    assert scraped.value("refusals_total", method=method) == 3
    passed, *denied = [line for line in capsys.readouterr().out.splitlines() if "request_id=of-the-request" in line]
    assert f"user_id={account.user_id}" in passed
    assert "denied" not in passed
    for line, reason in zip(denied, ["NOT_AUTHENTICATED", "TOKEN_INVALID", "TOKEN_INVALID"], strict=True):
        assert f"denied={reason}" in line
