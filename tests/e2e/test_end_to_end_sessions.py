"""Sessions on two processes and one keyspace: when one process ends a session, the other refuses its next call."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from killrvideo.user.v1.user_service_pb2 import (
    ChangePasswordRequest,
    DeleteMeRequest,
    EndSessionRequest,
    ListSessionsRequest,
    LoginResponse,
    LogoutRequest,
    RefreshTokenRequest,
)
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.stores.data_api.client import Keyspace
from tests.e2e.callers import access, bearer, log_in, outcome, processes
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration

NEW = "another password"


@pytest.fixture(scope="module")
def stubs(keyspace: Keyspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[UserServiceStub]]:
    with processes(tmp_path_factory.mktemp("two"), keyspace, 2) as stubs:
        yield stubs


@pytest.fixture
def here(stubs: list[UserServiceStub]) -> UserServiceStub:
    return stubs[0]


@pytest.fixture
def there(stubs: list[UserServiceStub]) -> UserServiceStub:
    return stubs[1]


@pytest.fixture
def email(here: UserServiceStub) -> str:
    """The address of a registered account."""
    email = an_address()
    here.Register(registration(email))
    return email


def refresh(stub: UserServiceStub, login: LoginResponse) -> LoginResponse:
    return stub.RefreshToken(RefreshTokenRequest(refresh_token=login.refresh_token))


def accesses(stubs: list[UserServiceStub], login: LoginResponse) -> list[str]:
    return [access(stub, login) for stub in stubs]


def test_a_logout_ends_one_session_or_all(stubs: list[UserServiceStub], email: str) -> None:
    here, there = stubs
    logins = [log_in(stub, email) for stub in (here, there, here)]
    assert [accesses(stubs, login) for login in logins] == [["OK"] * 2] * 3
    here.Logout(LogoutRequest(), metadata=bearer(logins[0]))
    assert [access(there, login) for login in logins] == ["SESSION_ENDED", "OK", "OK"]
    here.Logout(LogoutRequest(all_sessions=True), metadata=bearer(logins[1]))
    assert [access(there, login) for login in logins] == ["SESSION_ENDED"] * 3
    for login in logins:
        assert outcome(lambda: refresh(there, login)) == "REFRESH_TOKEN_INVALID"  # noqa: B023 # called at once


def test_a_session_is_listed_and_ended_from_another_process(
    here: UserServiceStub, there: UserServiceStub, email: str
) -> None:
    login, other = log_in(here, email), log_in(there, email)
    newest, _ = there.ListSessions(ListSessionsRequest(), metadata=bearer(login)).sessions
    assert not newest.current
    there.EndSession(EndSessionRequest(session_id=newest.session_id), metadata=bearer(login))
    assert access(here, other) == "SESSION_ENDED"
    (left,) = here.ListSessions(ListSessionsRequest(), metadata=bearer(login)).sessions
    assert left.current


def test_a_refresh_token_goes_from_process_to_process(
    here: UserServiceStub, there: UserServiceStub, email: str
) -> None:
    first = log_in(here, email)
    second = refresh(there, first)
    assert refresh(here, first).refresh_token == second.refresh_token  # within the grace period
    third = refresh(here, second)
    assert third.refresh_token != second.refresh_token
    # The first token is older than the previous one now, so either it or the third was stolen.
    assert outcome(lambda: refresh(there, first)) == "REFRESH_TOKEN_REUSED"
    assert outcome(lambda: refresh(here, third)) == "REFRESH_TOKEN_INVALID"
    assert access(here, third) == "SESSION_ENDED"


def test_16_refreshes_at_once_have_one_successor(stubs: list[UserServiceStub], email: str) -> None:
    login, start = log_in(stubs[0], email), Barrier(16)

    def run(number: int) -> LoginResponse:
        start.wait(30)
        return refresh(stubs[number % 2], login)

    with ThreadPoolExecutor(16) as pool:
        refreshed = list(pool.map(run, range(16)))
    assert len({answer.refresh_token for answer in refreshed}) == 1
    assert {access(stub, answer) for stub in stubs for answer in refreshed} == {"OK"}
    assert access(stubs[0], refresh(stubs[1], refreshed[0])) == "OK"


def test_a_new_password_ends_all_sessions_everywhere(stubs: list[UserServiceStub], email: str) -> None:
    here, there = stubs
    login, other = log_in(here, email), log_in(there, email)
    change = ChangePasswordRequest(current_password=PASSWORD, new_password=NEW)
    changed = here.ChangePassword(change, metadata=bearer(login))
    assert [access(there, each) for each in (login, other, changed)] == ["SESSION_ENDED", "SESSION_ENDED", "OK"]
    assert outcome(lambda: refresh(there, other)) == "REFRESH_TOKEN_INVALID"
    assert outcome(lambda: log_in(there, email)) == "INVALID_CREDENTIALS"
    assert access(here, log_in(there, email, NEW)) == "OK"


def test_no_login_with_the_old_password_outlives_the_new_one(stubs: list[UserServiceStub], email: str) -> None:
    here, there = stubs
    login, start = log_in(here, email), Barrier(9)
    change = ChangePasswordRequest(current_password=PASSWORD, new_password=NEW)

    def race(number: int) -> LoginResponse | None:
        start.wait(30)
        logins: list[LoginResponse] = []
        reason = outcome(lambda: logins.append(log_in(stubs[number % 2], email)))
        assert reason in {"OK", "INVALID_CREDENTIALS"}
        return logins[0] if logins else None

    with ThreadPoolExecutor(8) as pool:
        racing = [pool.submit(race, number) for number in range(8)]
        start.wait(30)
        changed = there.ChangePassword(change, metadata=bearer(login))
        opened = [answer for answer in (future.result() for future in racing) if answer]
    assert [access(here, answer) for answer in opened] == ["SESSION_ENDED"] * len(opened)
    (left,) = here.ListSessions(ListSessionsRequest(), metadata=bearer(changed)).sessions
    assert left.current


def test_a_deletion_ends_all_sessions_everywhere(stubs: list[UserServiceStub], email: str) -> None:
    here, there = stubs
    login, other = log_in(here, email), log_in(there, email)
    here.DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=bearer(login))
    assert [access(there, each) for each in (login, other)] == ["USER_NOT_FOUND"] * 2
    assert outcome(lambda: refresh(there, other)) == "REFRESH_TOKEN_INVALID"
    assert outcome(lambda: log_in(there, email)) == "INVALID_CREDENTIALS"


def test_an_account_has_20_sessions_at_most(stubs: list[UserServiceStub], email: str) -> None:
    logins = [log_in(stubs[number % 2], email) for number in range(22)]
    found = [access(stubs[0], login) for login in logins]
    assert found == ["SESSION_ENDED"] * 2 + ["OK"] * 20
