"""The service on a failing Data API: what callers see, and what a sweep finishes later."""

import pytest
from killrvideo.user.v1 import user_service_pb2 as pb

from killrvideo_grpc.stores.astra.services import SERVICES_ID
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from tests.rpc.astra.service import (
    CHANGE,
    REQUESTS_OF,
    UNAVAILABLE,
    UNTIL_DONE,
    Service,
    attempt,
    call,
    effective_request,
    events,
    is_call,
    is_count,
    start_calls,
    valid_requests,
)
from tests.rpc.conftest import Account
from tests.rpc.requests import RPCS, only_grant_for
from tests.support import fake_data_api
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import bearer, registration
from tests.support.eventually import eventually
from tests.support.fake_data_api import Close, Delay, ErrorAnswer, Hang, HttpStatus
from tests.support.keyspaces import KEYSPACE

FOR_SERVICES_ONLY = [rpc for rpc in RPCS if only_grant_for(rpc)]
ROW_FAULTS = [HttpStatus(500), ErrorAnswer("UNKNOWN_TABLE_COLUMNS", family="REQUEST")]


def is_read_of_services(request: fake_data_api.Request) -> bool:
    return request.name == ACCOUNTS and request.arguments.get("filter") == {"_id": SERVICES_ID}


# tests/stores/astra/test_failures.py has all faults, and each method of the store.
@pytest.mark.parametrize(
    ("rpc", "fault"),
    [
        *((rpc, HttpStatus(503)) for rpc in RPCS),
        *(("ChangeEmail", fault) for fault in (Close(), HttpStatus(401), HttpStatus(429))),
    ],
    ids=repr,
)
def test_trouble_with_any_request_is_unavailable(
    service: Service, server: fake_data_api.FakeDataApi, account: Account, rpc: str, fault: fake_data_api.faults.Kind
) -> None:
    request = effective_request(service, rpc, account)
    if rpc in FOR_SERVICES_ONLY:
        call(rpc, account, request)  # the services are remembered for some seconds; the next test makes their read fail
    requests = UNTIL_DONE.get(rpc, len(REQUESTS_OF[rpc])) - (rpc in FOR_SERVICES_ONLY)
    for step in range(requests):
        with server.fail(fault, skip=step, where=lambda each: is_call(each) and not is_read_of_services(each)):
            failure = attempt(lambda: call(rpc, account, request))
        assert failure, f"goes well without request {step}"
        assert (failure.code, failure.reason, failure.retry_seconds) == (UNAVAILABLE, "STORE_UNAVAILABLE", 1)
        assert failure.message == "The user store is unavailable. Try again in a moment."
    assert attempt(lambda: call(rpc, account, request)) is None


@pytest.mark.parametrize("rpc", FOR_SERVICES_ONLY)
def test_trouble_with_the_read_of_services_is_unavailable(
    service: Service, server: fake_data_api.FakeDataApi, account: Account, rpc: str
) -> None:
    request = effective_request(service, rpc, account)
    with server.fail(HttpStatus(503), where=is_read_of_services):
        failure = attempt(lambda: call(rpc, account, request))
    assert failure
    assert (failure.code, failure.reason) == (UNAVAILABLE, "STORE_UNAVAILABLE")
    # A failed read is remembered for a second.
    eventually(lambda: attempt(lambda: call(rpc, account, request)) is None)


def test_a_login_that_cannot_write_its_session_opens_none(server: fake_data_api.FakeDataApi, account: Account) -> None:
    with server.fail(HttpStatus(500), command=CHANGE):
        failure = attempt(account.log_in)
    assert failure
    assert (failure.code, failure.reason) == (UNAVAILABLE, "STORE_UNAVAILABLE")
    assert [session.session_id for session in call("ListSessions", account).sessions] == [account.session_id]


@pytest.mark.parametrize(("password", "step"), [(PASSWORD, 0), ("wrong", 0), ("wrong", 1), ("wrong", 2)])
def test_a_login_without_counters_is_refused_whatever_the_password(
    server: fake_data_api.FakeDataApi, account: Account, password: str, step: int
) -> None:
    login = pb.LoginRequest(email=account.email, password=password)
    with server.fail(HttpStatus(503), skip=step, where=is_count):
        failure = attempt(lambda: account.stub.Login(login))
    assert failure
    assert (failure.code, failure.reason) == (UNAVAILABLE, "STORE_UNAVAILABLE")


@pytest.mark.parametrize("fault", ROW_FAULTS, ids=repr)
def test_a_registration_succeeds_without_its_row(
    service: Service, server: fake_data_api.FakeDataApi, fault: fake_data_api.faults.Kind
) -> None:
    email = an_address()
    with server.fail(fault, name=USERS):
        user_id = service.stub.Register(registration(email)).user_id
        service.settle()
    assert server.row(KEYSPACE, USERS, user_id) is None
    assert service.sweep() == 1
    row = server.row(KEYSPACE, USERS, user_id)
    assert row
    assert row["email"] == email
    for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY):
        assert events(server, table, user_id) == ["registered"]
    assert service.stub.Login(pb.LoginRequest(email=email, password=PASSWORD)).token


def test_a_deletion_succeeds_without_releasing_the_address(
    service: Service, server: fake_data_api.FakeDataApi, account: Account
) -> None:
    with server.fail(HttpStatus(500), skip=UNTIL_DONE["DeleteMe"], where=is_call):
        call("DeleteMe", account)
        service.settle()
    failure = attempt(lambda: call("GetMe", account))
    assert failure
    assert failure.reason == "USER_NOT_FOUND"
    assert service.sweep() == 1
    assert call("Register", account, registration(account.email)).user_id != account.user_id


def test_a_login_writes_a_row_that_is_missing(service: Service, server: fake_data_api.FakeDataApi) -> None:
    email = an_address()
    with server.fail(HttpStatus(500), name=USERS):
        user_id = service.stub.Register(registration(email)).user_id
        service.settle()
    service.stub.Login(pb.LoginRequest(email=email, password=PASSWORD))
    service.settle()
    assert server.row(KEYSPACE, USERS, user_id)
    assert events(server, ACCOUNT_EVENTS, user_id) == ["registered"]


def test_failing_calls_cause_few_health_checks(server: fake_data_api.FakeDataApi, account: Account) -> None:
    server.fail(HttpStatus(500))
    server.forget_requests()
    for _ in range(100):
        assert attempt(account.log_in)
    pings = [request for request in server.requests if not is_call(request)]
    assert 0 < len(pings) < 50  # one per second; a slow machine may take some seconds


def test_hanging_calls_end_in_time(service: Service, server: fake_data_api.FakeDataApi, account: Account) -> None:
    for rpc in ("CheckTokens", "CreatePasswordReset"):
        service.empower(account, rpc)
    requests = valid_requests([rpc for rpc in RPCS if REQUESTS_OF[rpc]], account)
    server.fail(Hang())
    codes = [made.code() for made in start_calls(requests, account)]
    assert codes == [UNAVAILABLE] * len(requests)


def test_hanging_calls_leave_room_for_others(
    service: Service, server: fake_data_api.FakeDataApi, account: Account
) -> None:
    requests = valid_requests(["GetMe", "UpdateMe", "Login", "RefreshToken"] * 50, account)
    server.fail(Hang())
    server.forget_requests()
    hanging = start_calls(requests, account)
    server.wait_for(where=is_call)
    refused = attempt(lambda: service.stub.GetMe(pb.GetMeRequest(), metadata=bearer("garbage"), timeout=20))
    assert refused
    assert refused.reason == "TOKEN_INVALID"
    assert {made.code() for made in hanging} == {UNAVAILABLE}


def test_a_slow_data_api_is_waited_for(server: fake_data_api.FakeDataApi, account: Account) -> None:
    server.fail(Delay(0.2), times=1, where=is_call)
    assert call("GetMe", account).first_name == "Ann"
