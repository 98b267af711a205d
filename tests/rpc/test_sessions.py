"""Sessions, refresh tokens, passwords and the deletion of accounts, as callers see them."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import grpc
import jwt
import pytest
from killrvideo.user.v1.user_service_pb2 import (
    ChangePasswordRequest,
    DeleteMeRequest,
    EndSessionRequest,
    GetMeRequest,
    ListSessionsRequest,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    RefreshTokenRequest,
    RegisterRequest,
    UpdateMeRequest,
)

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain import account as domain
from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.changes import Change, Delete
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.service.moderation import Operators
from tests.rpc.conftest import Account, Metadata, Stub, bearer, session_of
from tests.support.accounts import PASSWORD, a_cause, an_address
from tests.support.errors import Failure, read_failure
from tests.support.hashing import CountingHasher
from tests.support.loops import LoopThread
from tests.support.settings import KEY
from tests.support.stores import FlakyStore
from tests.support.tokens import signed

Code = grpc.StatusCode
NEW = "another password"
DAY = 24 * 60 * 60 * 1000


def attempt(call: Callable[..., Any], request: object, metadata: Metadata | None = None) -> Any:
    """Returns the response, or how the call failed."""
    try:
        return call(request, metadata=metadata, timeout=30)
    except grpc.RpcError as error:
        return read_failure(error)


def reason(call: Callable[..., Any], request: object, metadata: Metadata | None = None) -> str | None:
    """Returns the reason why the call failed; None if it succeeded."""
    outcome = attempt(call, request, metadata)
    return outcome.reason if isinstance(outcome, Failure) else None


def refresh(stub: Stub, token: str) -> Any:
    return attempt(stub.RefreshToken, RefreshTokenRequest(refresh_token=token))


def is_alive(stub: Stub, login: LoginResponse) -> bool:
    found = reason(stub.GetMe, GetMeRequest(), bearer(login.token))
    assert found in (None, "SESSION_ENDED")
    return found is None


def test_a_login_opens_a_session(grpc_stub: Stub, account: Account) -> None:
    assert 0 < account.login.refresh_expires_at.seconds - account.login.expires_at.seconds < 30 * DAY / 1000
    (session,) = grpc_stub.ListSessions(ListSessionsRequest(), metadata=account.metadata).sessions
    assert (session.session_id, session.current) == (account.session_id, True)
    assert session.user_agent.startswith("grpc-python")
    assert session.created_date == session.last_used_date
    assert session.expires_at.seconds == account.login.refresh_expires_at.seconds


def test_the_oldest_of_more_than_twenty_sessions_gives_way(grpc_stub: Stub, account: Account) -> None:
    logins = [account.log_in() for _ in range(20)]
    assert not is_alive(grpc_stub, account.login)
    assert all(is_alive(grpc_stub, login) for login in logins)
    listed = grpc_stub.ListSessions(ListSessionsRequest(), metadata=bearer(logins[0].token)).sessions
    assert [session.session_id for session in listed] == [session_of(login.token) for login in reversed(logins)]
    assert [session.current for session in listed] == [False] * 19 + [True]


def test_many_logins_at_once_leave_twenty_sessions(grpc_stub: Stub, account: Account) -> None:
    with ThreadPoolExecutor(40) as pool:
        logins = list(pool.map(lambda _: account.log_in(), range(40)))
    assert sum(is_alive(grpc_stub, login) for login in logins) == 20


def test_a_session_is_ended_by_its_id(grpc_stub: Stub, account: Account) -> None:
    other, third = account.log_in(), account.log_in()
    session_id = session_of(other.token)
    for spelling in (session_id.upper(), session_id, str(uuid4())):
        grpc_stub.EndSession(EndSessionRequest(session_id=spelling), metadata=account.metadata)
    assert [is_alive(grpc_stub, login) for login in (account.login, other, third)] == [True, False, True]


@pytest.mark.parametrize("session_id", ["", "x", "a.b", "$set", "0" * 36])
def test_a_session_id_must_be_a_uuid(grpc_stub: Stub, account: Account, session_id: str) -> None:
    failure = attempt(grpc_stub.EndSession, EndSessionRequest(session_id=session_id), account.metadata)
    assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["sessionId"])


def test_logout_ends_this_session_or_all(grpc_stub: Stub, account: Account) -> None:
    logins = [account.log_in() for _ in range(3)]
    grpc_stub.Logout(LogoutRequest(), metadata=bearer(logins[0].token))
    assert [is_alive(grpc_stub, login) for login in logins] == [False, True, True]
    grpc_stub.Logout(LogoutRequest(all_sessions=True), metadata=bearer(logins[1].token))
    assert not any(is_alive(grpc_stub, login) for login in (*logins, account.login))
    assert refresh(grpc_stub, logins[2].refresh_token).reason == "REFRESH_TOKEN_INVALID"


def test_a_refresh_gives_the_next_pair_of_tokens(grpc_stub: Stub, account: Account) -> None:
    login = account.login
    for _ in range(3):
        following = grpc_stub.RefreshToken(RefreshTokenRequest(refresh_token=login.refresh_token))
        assert following.refresh_token != login.refresh_token
        assert session_of(following.token) == account.session_id
        assert is_alive(grpc_stub, following)
        login = following


def test_changed_roles_show_in_the_next_token(
    grpc_stub: Stub, account: Account, operators: Operators, loop: LoopThread
) -> None:
    loop.run(operators.assign_role(account.email, Role.CREATOR))
    token = grpc_stub.RefreshToken(RefreshTokenRequest(refresh_token=account.login.refresh_token)).token
    assert jwt.decode(token, options={"verify_signature": False})["roles"] == ["creator", "viewer"]


def test_many_refreshes_at_once_have_one_successor(grpc_stub: Stub, account: Account) -> None:
    start = Barrier(16)

    def call(_: int) -> Any:
        start.wait(10)
        return refresh(grpc_stub, account.login.refresh_token)

    with ThreadPoolExecutor(16) as pool:
        successors = {answer.refresh_token for answer in pool.map(call, range(16))}
    assert len(successors) == 1
    assert isinstance(refresh(grpc_stub, successors.pop()), LoginResponse)


def test_a_refresh_token_that_comes_back_later_ends_its_session(grpc_stub: Stub, account: Account) -> None:
    following = refresh(grpc_stub, account.login.refresh_token)
    assert refresh(grpc_stub, account.login.refresh_token).refresh_token == following.refresh_token
    account.execute("UPDATE sessions SET refreshed_date = refreshed_date - 601000 WHERE userid = ?", account.user_id)
    failure = refresh(grpc_stub, account.login.refresh_token)
    assert (failure.code, failure.reason, failure.message) == (
        Code.UNAUTHENTICATED,
        "REFRESH_TOKEN_REUSED",
        "Please log in again",
    )
    assert not is_alive(grpc_stub, following)
    assert refresh(grpc_stub, following.refresh_token).reason == "REFRESH_TOKEN_INVALID"
    assert events(account)[-1] == "refresh_token_reused"


def test_a_replaced_refresh_token_works_for_ten_minutes(grpc_stub: Stub, account: Account) -> None:
    following = refresh(grpc_stub, account.login.refresh_token)
    account.execute("UPDATE sessions SET refreshed_date = refreshed_date - 595000 WHERE userid = ?", account.user_id)
    assert refresh(grpc_stub, account.login.refresh_token).refresh_token == following.refresh_token


def test_a_refresh_token_two_steps_behind_counts_as_reused_at_once(grpc_stub: Stub, account: Account) -> None:
    second = refresh(grpc_stub, account.login.refresh_token)
    third = refresh(grpc_stub, second.refresh_token)
    assert refresh(grpc_stub, account.login.refresh_token).reason == "REFRESH_TOKEN_REUSED"
    assert not is_alive(grpc_stub, third)


@pytest.mark.parametrize(
    ("column", "age"), [("refreshed_date", 30 * DAY), ("created_date", 90 * DAY)], ids=["unused", "old"]
)
def test_sessions_expire_when_unused_or_old(grpc_stub: Stub, account: Account, column: str, age: int) -> None:
    age_by = f"UPDATE sessions SET {column} = {column} - ? WHERE userid = ?"
    account.execute(age_by, str(age - 60_000), account.user_id)
    answer = refresh(grpc_stub, account.login.refresh_token)
    assert isinstance(answer, LoginResponse)
    account.execute(age_by, str(age), account.user_id)
    failure = refresh(grpc_stub, answer.refresh_token)
    assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "REFRESH_TOKEN_EXPIRED")
    other = account.log_in()
    (session,) = grpc_stub.ListSessions(ListSessionsRequest(), metadata=bearer(other.token)).sessions
    assert session.session_id == session_of(other.token)


def test_an_access_token_does_not_outlive_its_session(grpc_stub: Stub, account: Account) -> None:
    almost = str(90 * DAY - 60_000)
    account.execute("UPDATE sessions SET created_date = created_date - ? WHERE userid = ?", almost, account.user_id)
    answer = refresh(grpc_stub, account.login.refresh_token)
    assert answer.expires_at.seconds == answer.refresh_expires_at.seconds
    expires = jwt.decode(answer.token, options={"verify_signature": False})["exp"]
    assert expires == answer.expires_at.seconds


def forged(account: Account) -> list[str]:
    claims = {"sub": account.user_id, "sid": account.session_id, "gen": 1, "aud": "killrvideo.refresh"}
    genuine = account.login.refresh_token
    return [
        account.login.token,
        signed(claims),  # with the key of the access tokens
        signed(claims, key="other" * 16),
        jwt.encode(claims, "", "none"),
        genuine + "=",
        genuine[:-2],
        f"{genuine}.",
        KEY,
        "x" * 100_000,
    ]


def test_only_genuine_refresh_tokens_are_accepted(grpc_stub: Stub, account: Account) -> None:
    for token in forged(account):
        failure = refresh(grpc_stub, token)
        assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"), token[:100]
    assert refresh(grpc_stub, "").code is Code.INVALID_ARGUMENT
    assert is_alive(grpc_stub, account.login)


def test_refresh_tokens_are_stored_nowhere(grpc_stub: Stub, account: Account, settings: Settings) -> None:
    following = refresh(grpc_stub, account.login.refresh_token)
    files = [file.read_bytes() for file in settings.sqlite_path.parent.iterdir()]
    assert any(account.session_id.encode() in file for file in files)
    for token in (account.login.refresh_token, following.refresh_token, following.token):
        assert not any(token.rpartition(".")[2].encode() in file for file in files)


def test_a_suspended_account_cannot_refresh(grpc_stub: Stub, account: Account) -> None:
    account.change("account_status", "suspended")
    failure = refresh(grpc_stub, account.login.refresh_token)
    assert (failure.code, failure.reason) == (Code.PERMISSION_DENIED, "ACCOUNT_SUSPENDED")
    account.change("account_status", "active")
    assert isinstance(refresh(grpc_stub, account.login.refresh_token), LoginResponse)


def change_password(stub: Stub, metadata: Metadata, current: str, new: str) -> Any:
    return attempt(stub.ChangePassword, ChangePasswordRequest(current_password=current, new_password=new), metadata)


def test_a_new_password_ends_all_other_sessions(grpc_stub: Stub, account: Account) -> None:
    others = [account.login, account.log_in()]
    changed = change_password(grpc_stub, account.metadata, PASSWORD, NEW)
    assert is_alive(grpc_stub, changed)
    assert not any(is_alive(grpc_stub, login) for login in others)
    assert reason(grpc_stub.Login, LoginRequest(email=account.email, password=PASSWORD)) == "INVALID_CREDENTIALS"
    account.password = NEW
    assert is_alive(grpc_stub, account.log_in())
    assert refresh(grpc_stub, account.login.refresh_token).reason == "REFRESH_TOKEN_INVALID"
    assert isinstance(refresh(grpc_stub, changed.refresh_token), LoginResponse)


def test_a_new_password_needs_the_current_one(
    grpc_stub: Stub, account: Account, hasher: CountingHasher, settings: Settings
) -> None:
    for wrong in ("wrong", PASSWORD * 10, f"{PASSWORD}\0"):
        hasher.costs.clear()
        failure = change_password(grpc_stub, account.metadata, wrong, NEW)
        assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "INVALID_CREDENTIALS")
        assert hasher.costs == [settings.bcrypt_rounds]
    assert is_alive(grpc_stub, account.login)


@pytest.mark.parametrize("new", [PASSWORD, "short", " " * 8, "x" * 73, "1234567\0"])
def test_a_new_password_must_keep_the_rules_and_differ(grpc_stub: Stub, account: Account, new: str) -> None:
    failure = change_password(grpc_stub, account.metadata, PASSWORD, new)
    assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["newPassword"])


def test_of_many_new_passwords_at_once_one_is_accepted(grpc_stub: Stub, account: Account) -> None:
    """Several of them may have checked the current password before the first one replaces it."""
    news = [f"new password {number}" for number in range(4)]
    with ThreadPoolExecutor(len(news)) as pool:
        outcomes = list(pool.map(lambda new: change_password(grpc_stub, account.metadata, account.password, new), news))
    (accepted,) = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, LoginResponse)]
    refused = {outcome.reason for outcome in outcomes if isinstance(outcome, Failure)}
    assert refused <= {"INVALID_CREDENTIALS", "SESSION_ENDED"}
    account.password = news[accepted]
    assert is_alive(grpc_stub, account.log_in())
    assert is_alive(grpc_stub, outcomes[accepted])


def test_a_refresh_that_races_with_a_deletion(
    grpc_stub: Stub, account: Account, store: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = store.apply

    async def delete_first(user_id: UUID, change: Change, cause: Cause, *, seen: domain.Account) -> domain.Account:
        await apply(user_id, Delete(seen.credential_id), a_cause(user_id))
        return await apply(user_id, change, cause, seen=seen)

    monkeypatch.setattr(store, "apply", delete_first)
    assert refresh(grpc_stub, account.login.refresh_token).reason == "REFRESH_TOKEN_INVALID"


def test_a_login_that_races_with_a_new_password(grpc_stub: Stub, account: Account) -> None:
    """Whatever the order, the login's session only works if its password is the current one."""
    current, following = PASSWORD, NEW
    metadata = account.metadata
    for _ in range(6):
        with ThreadPoolExecutor(7) as pool:
            login = LoginRequest(email=account.email, password=current)
            racing = [pool.submit(attempt, grpc_stub.Login, login) for _ in range(6)]
            changed = pool.submit(change_password, grpc_stub, metadata, current, following).result()
            logins = [call.result() for call in racing]
        assert is_alive(grpc_stub, changed)
        assert not any(is_alive(grpc_stub, login) for login in logins if isinstance(login, LoginResponse))
        metadata, current, following = bearer(changed.token), following, current


def delete(stub: Stub, account: Account, password: str = PASSWORD) -> Any:
    return attempt(stub.DeleteMe, DeleteMeRequest(password=password), account.metadata)


def test_a_deleted_account_is_gone(grpc_stub: Stub, account: Account) -> None:
    other = account.log_in()
    assert delete(grpc_stub, account, "wrong").reason == "INVALID_CREDENTIALS"
    assert is_alive(grpc_stub, other)
    delete(grpc_stub, account)
    for call, request in ((grpc_stub.GetMe, GetMeRequest()), (grpc_stub.UpdateMe, UpdateMeRequest(first_name="Bea"))):
        assert reason(call, request, bearer(other.token)) == "USER_NOT_FOUND"
    assert refresh(grpc_stub, other.refresh_token).reason == "REFRESH_TOKEN_INVALID"
    assert reason(grpc_stub.Login, LoginRequest(email=account.email, password=PASSWORD)) == "INVALID_CREDENTIALS"
    assert events(account) == ["registered", "deleted"]


def test_one_of_many_gets_the_address_of_a_deleted_account(grpc_stub: Stub, account: Account) -> None:
    delete(grpc_stub, account)
    request = RegisterRequest(email=account.email, password=PASSWORD, first_name="Bob", last_name="Ray")
    with ThreadPoolExecutor(64) as pool:
        outcomes = Counter(pool.map(lambda _: reason(grpc_stub.Register, request), range(64)))
    assert outcomes == {None: 1, "EMAIL_ALREADY_REGISTERED": 63}
    assert account.log_in().user.user_id != account.user_id


def test_the_last_moderator_stays(grpc_stub: Stub, account: Account, operators: Operators, loop: LoopThread) -> None:
    loop.run(operators.assign_role(account.email, Role.MODERATOR))
    failure = delete(grpc_stub, account)
    assert (failure.code, failure.reason, failure.message) == (
        Code.FAILED_PRECONDITION,
        "LAST_MODERATOR",
        "There must be a moderator",
    )
    assert is_alive(grpc_stub, account.login)
    other = an_address()
    grpc_stub.Register(RegisterRequest(email=other, password=PASSWORD, first_name="Bob", last_name="Ray"))
    loop.run(operators.assign_role(other, Role.MODERATOR))
    assert not isinstance(delete(grpc_stub, account), Failure)
    loop.run(operators.revoke_role(other, Role.MODERATOR, force=True))


def test_what_happens_to_an_account_is_recorded(grpc_stub: Stub, account: Account) -> None:
    other = account.log_in()
    grpc_stub.EndSession(EndSessionRequest(session_id=session_of(other.token)), metadata=account.metadata)
    changed = change_password(grpc_stub, account.metadata, PASSWORD, NEW)
    grpc_stub.Logout(LogoutRequest(), metadata=bearer(changed.token))
    assert events(account) == ["registered", "sessions_ended", "password_changed", "sessions_ended"]


def events(account: Account) -> list[str]:
    """Returns what happened to the account, oldest first."""
    rows = account.execute("SELECT action FROM events WHERE account = ? ORDER BY at", account.user_id)
    return [action for (action,) in rows]
