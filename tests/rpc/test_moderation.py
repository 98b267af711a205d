"""Moderators change other people's accounts, and the audit trail records it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
from killrvideo.user.v1.audit_event_pb2 import AuditEvent
from killrvideo.user.v1.user_pb2 import User
from killrvideo.user.v1.user_service_pb2 import (
    AssignRoleRequest,
    ChangePasswordRequest,
    DeleteMeRequest,
    GetMeRequest,
    ListAuditEventsRequest,
    LoginRequest,
    LogoutRequest,
    RefreshTokenRequest,
    ReinstateUserRequest,
    RevokeRoleRequest,
    SuspendUserRequest,
)

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.service.moderation import Operators
from tests.rpc.conftest import Account, Stub
from tests.support.accounts import PASSWORD
from tests.support.calls import bearer
from tests.support.errors import read_failure
from tests.support.hashing import CountingHasher
from tests.support.loops import LoopThread

Code = grpc.StatusCode


@pytest.fixture
def moderator(account: Account) -> Iterator[Account]:
    account.change("roles", '["viewer", "moderator"]')
    yield account
    account.change("roles", '["viewer"]')


@pytest.fixture
def other(account: Account) -> Account:
    return account.other


def attempt(call: Callable[..., Any], request: object, account: Account) -> Any:
    """Return the answer, or how the call failed."""
    try:
        return call(request, metadata=account.metadata)
    except grpc.RpcError as error:
        return read_failure(error)


def trail(stub: Stub, moderator: Account, user_id: str = "", page_size: int = 100) -> list[AuditEvent]:
    events: list[AuditEvent] = []
    token = ""
    while True:
        request = ListAuditEventsRequest(user_id=user_id, page_size=page_size, page_token=token)
        page = stub.ListAuditEvents(request, metadata=moderator.metadata)
        assert len(page.events) <= (page_size or 20)
        events += page.events
        if not (token := page.next_page_token):
            return events


def assign(user: Account, role: str, reason: str = "because") -> AssignRoleRequest:
    return AssignRoleRequest(user_id=user.user_id, role=role, reason=reason)


def revoke(user: Account, role: str, reason: str = "because") -> RevokeRoleRequest:
    return RevokeRoleRequest(user_id=user.user_id, role=role, reason=reason)


def suspend(user: Account, reason: str = "because") -> SuspendUserRequest:
    return SuspendUserRequest(user_id=user.user_id, reason=reason)


def reinstate(user: Account, reason: str = "because") -> ReinstateUserRequest:
    return ReinstateUserRequest(user_id=user.user_id, reason=reason)


@pytest.mark.parametrize("role", Role)
def test_roles_are_given_and_taken_and_repeating_it_is_harmless(
    grpc_stub: Stub, moderator: Account, other: Account, role: Role
) -> None:
    expected = [each.value for each in Role if each in (Role.VIEWER, role)]
    for _ in range(2):
        user = grpc_stub.AssignRole(assign(other, role), metadata=moderator.metadata)
        assert (user.user_id, list(user.roles)) == (other.user_id, expected)
    for _ in range(2):
        user = grpc_stub.RevokeRole(revoke(other, role), metadata=moderator.metadata)
        assert list(user.roles) == [each for each in expected if each != role]
    actions = [event.action for event in trail(grpc_stub, moderator, other.user_id)]
    # Assigning a role that the account already has is not an event.
    assert actions == ["role_revoked", *([] if role is Role.VIEWER else ["role_assigned"]), "registered"]


def test_changed_roles_take_effect_at_the_next_call_with_an_old_token(
    grpc_stub: Stub, moderator: Account, other: Account
) -> None:
    events = ListAuditEventsRequest()
    refused = attempt(grpc_stub.ListAuditEvents, events, other)
    assert (refused.code, refused.reason) == (Code.PERMISSION_DENIED, "ROLE_REQUIRED")
    grpc_stub.AssignRole(assign(other, "moderator"), metadata=moderator.metadata)
    assert attempt(grpc_stub.ListAuditEvents, events, other).events
    grpc_stub.RevokeRole(revoke(other, "moderator"), metadata=moderator.metadata)
    assert attempt(grpc_stub.ListAuditEvents, events, other).reason == "ROLE_REQUIRED"


def test_moderators_act_on_others_only(grpc_stub: Stub, moderator: Account, other: Account) -> None:
    grpc_stub.AssignRole(assign(other, "moderator"), metadata=moderator.metadata)
    for call, request, message in (
        (
            grpc_stub.RevokeRole,
            revoke(moderator, "moderator"),
            "Moderators can't revoke their own moderator role",
        ),
        (grpc_stub.SuspendUser, suspend(moderator), "Moderators can't change the status of their own account"),
        (grpc_stub.ReinstateUser, reinstate(moderator), "Moderators can't change the status of their own account"),
    ):
        failure = attempt(call, request, moderator)
        assert (failure.code, failure.reason, failure.message) == (Code.FAILED_PRECONDITION, "OWN_ACCOUNT", message)
    assert list(attempt(grpc_stub.AssignRole, assign(moderator, "creator"), moderator).roles) == list(Role)
    assert list(attempt(grpc_stub.RevokeRole, revoke(moderator, "creator"), moderator).roles) == ["viewer", "moderator"]


def test_a_suspended_account_can_do_nothing_until_it_is_reinstated(
    grpc_stub: Stub, moderator: Account, other: Account, hasher: CountingHasher
) -> None:
    ended = bearer(other.log_in().token)
    user = grpc_stub.SuspendUser(suspend(other), metadata=moderator.metadata)
    assert user.account_status == "suspended"
    assert grpc_stub.SuspendUser(suspend(other), metadata=moderator.metadata) == user
    for failure in (
        attempt(grpc_stub.GetMe, GetMeRequest(), other),
        attempt(grpc_stub.Logout, LogoutRequest(), other),
    ):
        assert (failure.code, failure.reason) == (Code.PERMISSION_DENIED, "ACCOUNT_SUSPENDED")
    refresh = RefreshTokenRequest(refresh_token=other.login.refresh_token)
    assert attempt(grpc_stub.RefreshToken, refresh, other).reason == "ACCOUNT_SUSPENDED"
    checks = len(hasher.costs)
    failure = attempt(grpc_stub.Login, LoginRequest(email=other.email, password=PASSWORD), other)
    assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "INVALID_CREDENTIALS")
    assert failure.message == "Incorrect email or password"
    assert len(hasher.costs) == checks + 1
    user = grpc_stub.ReinstateUser(reinstate(other), metadata=moderator.metadata)
    assert user.account_status == "active"
    assert grpc_stub.ReinstateUser(reinstate(other), metadata=moderator.metadata) == user
    assert attempt(grpc_stub.GetMe, GetMeRequest(), other) == user
    assert grpc_stub.GetMe(GetMeRequest(), metadata=ended).user_id == other.user_id
    grpc_stub.Logout(LogoutRequest(), metadata=ended)
    grpc_stub.SuspendUser(suspend(other), metadata=moderator.metadata)
    grpc_stub.ReinstateUser(reinstate(other), metadata=moderator.metadata)
    with pytest.raises(grpc.RpcError) as caught:
        grpc_stub.GetMe(GetMeRequest(), metadata=ended)
    assert read_failure(caught.value).reason == "SESSION_ENDED"
    actions = [event.action for event in trail(grpc_stub, moderator, other.user_id)]
    assert actions == ["reinstated", "suspended", "sessions_ended", "reinstated", "suspended", "registered"]


REQUESTS: dict[str, Callable[..., Any]] = {
    "AssignRole": lambda **fields: AssignRoleRequest(**{"role": "creator", "reason": "r", **fields}),
    "RevokeRole": lambda **fields: RevokeRoleRequest(**{"role": "creator", "reason": "r", **fields}),
    "SuspendUser": lambda **fields: SuspendUserRequest(**{"reason": "r", **fields}),
    "ReinstateUser": lambda **fields: ReinstateUserRequest(**{"reason": "r", **fields}),
}


@pytest.mark.parametrize("rpc", REQUESTS)
def test_moderation_enforces_shape_rules(grpc_stub: Stub, moderator: Account, other: Account, rpc: str) -> None:
    call, request = getattr(grpc_stub, rpc), REQUESTS[rpc]
    for reason in ("", " \n ", "x" * 501, "a\0b", "\x1b[31m"):
        failure = attempt(call, request(user_id=other.user_id, reason=reason), moderator)
        assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["reason"])
    failure = attempt(call, request(user_id="x", reason=""), moderator)
    assert list(failure.violations) == ["userId", "reason"]
    if "role" in request().DESCRIPTOR.fields_by_name:
        for role in ("", "admin", "Viewer", "viewer "):
            failure = attempt(call, request(user_id=other.user_id, role=role), moderator)
            assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["role"])
    for reason in ("x" * 500, f"  {'é' * 500}\t", "two\nlines"):
        assert isinstance(attempt(call, request(user_id=other.user_id, reason=reason), moderator), User)
    failure = attempt(call, request(user_id=str(uuid4())), moderator)
    assert (failure.code, failure.reason) == (Code.NOT_FOUND, "USER_NOT_FOUND")
    other.change("account_status", "active")
    grpc_stub.DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=other.metadata)
    assert attempt(call, request(user_id=other.user_id), moderator).reason == "USER_NOT_FOUND"


def test_the_trail_tells_everything_that_happened(
    grpc_stub: Stub, moderator: Account, other: Account, operators: Operators, loop: LoopThread
) -> None:
    request_id = f"planted-{uuid4()}"
    metadata = (*moderator.metadata, ("x-request-id", request_id))
    grpc_stub.AssignRole(assign(other, "creator", "  good work "), metadata=metadata)
    loop.run(operators.revoke_role(other.email, Role.CREATOR))
    change = ChangePasswordRequest(current_password=PASSWORD, new_password="another password")
    login = grpc_stub.ChangePassword(change, metadata=other.metadata)
    grpc_stub.Logout(LogoutRequest(), metadata=bearer(login.token))
    other.password = "another password"
    grpc_stub.DeleteMe(DeleteMeRequest(password=other.password), metadata=bearer(other.log_in().token))
    events = trail(grpc_stub, moderator, other.user_id)
    told = [(event.action, event.actor, event.before, event.after, event.reason) for event in reversed(events)]
    session_id = told[4][2]
    assert told == [
        ("registered", other.user_id, "", "viewer", ""),
        ("role_assigned", moderator.user_id, "viewer", "viewer,creator", "good work"),
        ("role_revoked", "cli:tester", "viewer,creator", "viewer", ""),
        ("password_changed", other.user_id, "", "", ""),
        ("sessions_ended", other.user_id, session_id, "", ""),
        ("deleted", other.user_id, "viewer", "", ""),
    ]
    assert len(session_id) == 36
    assert {event.user_id for event in events} == {other.user_id}
    assert events[-2].request_id == request_id
    assert len({event.event_id for event in events}) == 6
    assert other.email not in str(events)
    moments = [event.created_date.ToMilliseconds() for event in events]
    assert moments == sorted(moments, reverse=True)
    assert trail(grpc_stub, moderator, other.user_id, page_size=1) == events
    everything = trail(grpc_stub, moderator, page_size=7)
    assert [event for event in everything if event.user_id == other.user_id] == events
    assert len({event.event_id for event in everything}) == len(everything)
    assert trail(grpc_stub, moderator, str(uuid4())) == []


def test_page_tokens_of_the_trail(grpc_stub: Stub, moderator: Account, other: Account) -> None:
    page = grpc_stub.ListAuditEvents(ListAuditEventsRequest(page_size=1), metadata=moderator.metadata)
    assert page.next_page_token
    for user_id, token in ((other.user_id, page.next_page_token), ("", page.next_page_token[1:])):
        request = ListAuditEventsRequest(user_id=user_id, page_token=token)
        failure = attempt(grpc_stub.ListAuditEvents, request, moderator)
        assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["pageToken"])
    failure = attempt(grpc_stub.ListAuditEvents, ListAuditEventsRequest(user_id="x", page_size=101), moderator)
    assert list(failure.violations) == ["userId", "pageSize"]


def test_a_reused_refresh_token_is_in_the_trail(grpc_stub: Stub, moderator: Account, other: Account) -> None:
    token = other.login.refresh_token
    for _ in range(2):
        token = grpc_stub.RefreshToken(RefreshTokenRequest(refresh_token=token)).refresh_token
    failure = attempt(grpc_stub.RefreshToken, RefreshTokenRequest(refresh_token=other.login.refresh_token), other)
    assert failure.reason == "REFRESH_TOKEN_REUSED"
    latest = trail(grpc_stub, moderator, other.user_id)[0]
    assert (latest.action, latest.before) == ("refresh_token_reused", other.session_id)
