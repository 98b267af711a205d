"""The service on a Data API: which requests each RPC makes, and what it does after its answer."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from killrvideo.user.v1 import user_service_pb2 as pb

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.service.moderation import Operators
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from tests.rpc.astra.service import (
    CHANGE,
    COUNTED,
    COUNTERS,
    READ,
    READ_BOTH,
    REQUESTS_OF,
    Service,
    attempt,
    call,
    effective_request,
    events,
    is_call,
    is_count,
)
from tests.rpc.conftest import Account
from tests.rpc.requests import RPCS
from tests.support import fake_data_api
from tests.support.accounts import an_address
from tests.support.calls import bearer, registration
from tests.support.fake_data_api import Hang
from tests.support.keyspaces import KEYSPACE


def made_by(service: Service, call: Callable[[], object]) -> list[str]:
    """Return the requests of the call to `accounts`. Work after the answer is held at its first row meanwhile."""
    with service.data_api.fail(Hang(), name=USERS):
        made = asked_by(service, call)
    service.settle()
    return made


def asked_by(service: Service, call: Callable[[], object]) -> list[str]:
    """Return the requests to `accounts` until the call is answered."""
    service.data_api.forget_requests()
    call()
    return [request.command for request in service.data_api.requests if is_call(request)]


def counted(service: Service) -> list[str]:
    """Return the requests to the counters of attempts since then."""
    return [request.command for request in service.data_api.requests if is_count(request)]


@pytest.mark.parametrize("rpc", RPCS)
def test_requests_of_each_rpc(service: Service, account: Account, rpc: str) -> None:
    request = effective_request(service, rpc, account)
    # The first has no work after its answer, and the second reads rows.
    asked = asked_by if rpc in ("DeleteMe", "SearchUsers") else made_by
    assert asked(service, lambda: call(rpc, account, request)) == REQUESTS_OF[rpc]
    if rpc != "CreatePasswordReset":  # the first count of an hour takes more requests
        assert counted(service) == COUNTED.get(rpc, [])


@pytest.mark.parametrize("is_moderator", [False, True], ids=["viewer", "moderator"])
def test_all_requests_of_a_deletion(service: Service, account: Account, is_moderator: bool) -> None:
    operators, other = Operators(service.store, "cli:tester"), service.new_account()
    for moderator in (account, other) if is_moderator else ():
        service.loop.run(operators.assign_role(moderator.email, Role.MODERATOR))
    service.settle()
    service.data_api.forget_requests()
    call("DeleteMe", account)
    service.settle()
    places = [_place(each) for each in service.data_api.requests if _place(each) not in ("-", "throttle")]
    # In this order: the account (beside counters of attempts), the index, the account.
    decisive = ["account", "account", *(["index", "index"] if is_moderator else []), "account"]
    assert places[: len(decisive)] == decisive
    # At the same time: the projections, and the end of the demotion.
    rest = [USERS, "email", "email", ACCOUNT_EVENTS, EVENTS_BY_DAY, "account", *(["index"] if is_moderator else [])]
    assert sorted(places[len(decisive) :]) == sorted(rest)
    if is_moderator:
        service.loop.run(operators.revoke_role(other.email, Role.MODERATOR, force=True))


def test_requests_of_promotions_and_demotions(service: Service, account: Account) -> None:
    operators, moderator = Operators(service.store, "cli:tester"), service.new_account()
    service.loop.run(operators.assign_role(moderator.email, Role.MODERATOR))
    service.settle()
    role = pb.AssignRoleRequest(user_id=account.user_id, role="moderator", reason="helps")
    promoted = made_by(service, lambda: service.stub.AssignRole(role, metadata=moderator.metadata))
    assert promoted == [READ, READ_BOTH, CHANGE, CHANGE]  # account, index
    revoked = pb.RevokeRoleRequest(user_id=account.user_id, role="moderator", reason="left")
    demoted = made_by(service, lambda: service.stub.RevokeRole(revoked, metadata=moderator.metadata))
    assert demoted[:4] == [READ, READ_BOTH, CHANGE, CHANGE]  # index, account
    service.loop.run(operators.revoke_role(moderator.email, Role.MODERATOR, force=True))


def _place(request: fake_data_api.Request) -> str:
    """Return the table or the kind of document of a request; "-" for those of health checks."""
    if request.name != ACCOUNTS:
        return str(request.name)
    if "revision" in request.arguments["filter"]:
        changed = request.arguments["update"]["$set"].keys()
        return "email" if "owner" in changed else "index" if changed & {"ids", "leaving"} else "account"
    key = request.arguments["filter"]["_id"]
    return str(key["$in"][0] if isinstance(key, dict) else key).partition(":")[0]


def test_calls_that_change_nothing_make_fewer_requests(service: Service, account: Account) -> None:
    for rpc, request, asked in (
        ("Register", registration(account.email), [READ, READ]),
        ("Login", pb.LoginRequest(email=account.email, password="wrong"), [READ, READ]),
        ("Login", pb.LoginRequest(email=an_address(), password="wrong"), [READ, READ]),  # takes as long
        ("UpdateMe", pb.UpdateMeRequest(), [READ]),
        ("EndSession", pb.EndSessionRequest(session_id=str(uuid4())), [READ, CHANGE]),
        ("DeleteMe", pb.DeleteMeRequest(password="wrong"), [READ, READ]),
    ):
        made = made_by(service, lambda: attempt(partial(call, rpc, account, request)))  # noqa: B023 # called at once
        assert (rpc, made) == (rpc, asked)
    call("RefreshToken", account)
    assert made_by(service, lambda: call("RefreshToken", account)) == [READ, CHANGE]  # the token before the current one


def test_a_failed_attempt_is_counted_once_for_each_limit(service: Service) -> None:
    """Attempts in these tests are counted per account and source, and per account."""
    login = pb.LoginRequest(email=an_address(), password="wrong")
    begins = ["findOneAndUpdate"] * 3  # add one to an old window's count, begin this window, add one
    for updates in (2 * begins, ["findOneAndUpdate"] * 2):
        made_by(service, lambda: attempt(lambda: service.stub.Login(login)))
        assert counted(service) == [COUNTERS, *updates]


def test_a_refused_call_makes_no_request(service: Service) -> None:
    stub = service.stub
    for refused in (
        lambda: stub.GetMe(pb.GetMeRequest()),
        lambda: stub.GetMe(pb.GetMeRequest(), metadata=bearer("garbage")),
        lambda: stub.Register(pb.RegisterRequest(email="nobody")),
        lambda: stub.RefreshToken(pb.RefreshTokenRequest(refresh_token="garbage")),
    ):
        assert made_by(service, lambda: attempt(refused)) == []  # noqa: B023 # called at once


def test_row_and_events_follow_the_answer(
    service: Service, server: fake_data_api.FakeDataApi, account: Account
) -> None:
    def row() -> dict[str, Any]:
        return server.row(KEYSPACE, USERS, account.user_id) or {}

    assert (row()["email"], row()["firstname"]) == (account.email, "Ann")
    logged_in = call("GetMe", account).last_login_date.ToDatetime(UTC)
    assert datetime.fromisoformat(row()["last_login_date"]) == logged_in
    call("UpdateMe", account)
    service.settle()
    assert row()["firstname"] == "Bea"
    call("DeleteMe", account)
    service.settle()
    assert row() == {}
    for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY):
        assert events(server, table, account.user_id) == ["deleted", "registered"]
