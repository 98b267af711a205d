"""Sessions, refresh tokens, passwords and the deletion of accounts, as callers see them."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

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
    UpdateMeRequest,
)

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.service.moderation import Operators
from tests.rpc.conftest import Account, Stub, session_of
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import Metadata, bearer, registration
from tests.support.errors import Failure, read_failure
from tests.support.hashing import CountingHasher
from tests.support.loops import LoopThread
from tests.support.settings import KEY
from tests.support.tokens import signed

Code = grpc.StatusCode
NEW = "another password"
DAY = 24 * 60 * 60 * 1000


def attempt(call: Callable[..., Any], request: object, metadata: Metadata | None = None) -> Any:
    """Return the response, or how the call failed."""
    try:
        return call(request, metadata=metadata, timeout=30)
    except grpc.RpcError as error:
        return read_failure(error)


def reason(call: Callable[..., Any], request: object, metadata: Metadata | None = None) -> str | None:
    """Return the reason why the call failed; None if it succeeded."""
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
        signed(claims, algorithm="HS256"),
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
    grpc_stub.Register(registration(other))
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
    """Return what happened to the account, oldest first."""
    rows = account.execute("SELECT action FROM events WHERE account = ? ORDER BY at", account.user_id)
    return [action for (action,) in rows]
