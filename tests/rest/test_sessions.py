"""Sessions, passwords and the deletion of accounts, over REST and through a real Envoy."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.rest.conftest import JSON, USERS, Account, Edge, bearer, problem, registration
from tests.support.accounts import PASSWORD, an_address
from tests.support.process import run

ORIGIN = {"origin": "http://localhost:5173"}
NEW = "another password"


def log_in(client: httpx.Client, account: Account, password: str = PASSWORD) -> Any:
    answer = client.post(f"{USERS}/login", json={"email": account.email, "password": password})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(client: httpx.Client, login: Any) -> None:
    """Check that a login's access token no longer works."""
    answer = client.get(f"{USERS}/me", headers=bearer(login["token"]) | ORIGIN)
    problem(answer, 401, "SESSION_ENDED", "Session has ended")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]


def test_sessions_are_listed_and_ended_one_by_one(client: httpx.Client, account: Account) -> None:
    other = log_in(client, account)
    listed = client.get(f"{USERS}/me/sessions", headers=account.bearer)
    assert listed.status_code == 200
    newest, oldest = listed.json()["sessions"]
    assert newest.keys() == {"sessionId", "createdDate", "lastUsedDate", "expiresAt", "userAgent", "current"}
    assert (newest["current"], oldest["current"]) == (False, True)
    assert newest["userAgent"].startswith("python-httpx")
    path = f"{USERS}/me/sessions/{newest['sessionId']}"
    for _ in range(2):  # the second time, nothing is left to end
        gone = client.delete(path, headers=account.bearer)
        assert (gone.status_code, gone.json()) == (200, {})
    ended(client, other)
    assert client.get(f"{USERS}/me", headers=account.bearer).status_code == 200


def test_a_session_of_another_account_is_left_alone(client: httpx.Client, account: Account) -> None:
    client.post(f"{USERS}/register", json=registration(f"{uuid4().hex}@example.org"))
    email = f"{uuid4().hex}@example.org"
    client.post(f"{USERS}/register", json=registration(email))
    other = log_in(client, Account(email, "", ""))
    (session,) = client.get(f"{USERS}/me/sessions", headers=bearer(other["token"])).json()["sessions"]
    assert client.delete(f"{USERS}/me/sessions/{session['sessionId']}", headers=account.bearer).status_code == 200
    assert client.get(f"{USERS}/me", headers=bearer(other["token"])).status_code == 200


@pytest.mark.parametrize("session_id", ["x", "me", "-", "0" * 36])
def test_a_session_id_that_is_not_a_uuid(client: httpx.Client, account: Account, session_id: str) -> None:
    answer = client.delete(f"{USERS}/me/sessions/{session_id}", headers=account.bearer)
    problem(answer, 422, "VALIDATION_FAILED")
    assert [error["field"] for error in answer.json()["errors"]] == ["sessionId"]


@pytest.mark.parametrize("headers", [{}, JSON])
def test_logout_needs_no_body(client: httpx.Client, account: Account, headers: dict[str, str]) -> None:
    login, other = log_in(client, account), log_in(client, account)
    answer = client.post(f"{USERS}/logout", headers=bearer(login["token"]) | headers | ORIGIN)
    assert (answer.status_code, answer.json()) == (200, {})
    ended(client, login)
    assert client.get(f"{USERS}/me", headers=bearer(other["token"])).status_code == 200


def test_logout_everywhere(client: httpx.Client, account: Account) -> None:
    logins = [log_in(client, account) for _ in range(3)]
    answer = client.post(f"{USERS}/logout", headers=bearer(logins[0]["token"]), json={"allSessions": True})
    assert answer.status_code == 200
    for login in logins:
        ended(client, login)
        refused = client.post(f"{USERS}/refresh", json={"refreshToken": login["refreshToken"]})
        problem(refused, 401, "REFRESH_TOKEN_INVALID", "Please log in again")


def test_refresh(client: httpx.Client, account: Account) -> None:
    login = log_in(client, account)

    def refresh(token: str) -> httpx.Response:
        return client.post(f"{USERS}/refresh", json={"refreshToken": token})

    second, again = refresh(login["refreshToken"]), refresh(login["refreshToken"])
    assert (second.status_code, again.status_code) == (200, 200)
    assert second.json().keys() == login.keys()
    assert second.json()["refreshToken"] == again.json()["refreshToken"] != login["refreshToken"]
    assert client.get(f"{USERS}/me", headers=bearer(second.json()["token"])).status_code == 200
    assert refresh(second.json()["refreshToken"]).status_code == 200
    reused = refresh(login["refreshToken"])
    problem(reused, 401, "REFRESH_TOKEN_REUSED", "Please log in again")
    assert reused.headers["www-authenticate"] == "Bearer"
    ended(client, second.json())
    problem(refresh("garbage"), 401, "REFRESH_TOKEN_INVALID", "Please log in again")
    problem(refresh(login["token"]), 401, "REFRESH_TOKEN_INVALID", "Please log in again")
    problem(refresh(""), 422, "VALIDATION_FAILED")


def test_change_password(client: httpx.Client, account: Account) -> None:
    other = log_in(client, account)

    def change(current: str, new: str) -> httpx.Response:
        body = {"currentPassword": current, "newPassword": new}
        return client.post(f"{USERS}/me/password", json=body, headers=account.bearer)

    problem(change("wrong", NEW), 401, "INVALID_CREDENTIALS", "Incorrect email or password")
    for new in (PASSWORD, "short"):
        refused = change(PASSWORD, new)
        problem(refused, 422, "VALIDATION_FAILED")
        assert [error["field"] for error in refused.json()["errors"]] == ["newPassword"]
    changed = change(PASSWORD, NEW)
    assert changed.status_code == 200
    assert client.get(f"{USERS}/me", headers=bearer(changed.json()["token"])).status_code == 200
    ended(client, other)
    ended(client, {"token": account.token})
    refused = client.post(f"{USERS}/login", json={"email": account.email, "password": PASSWORD})
    problem(refused, 401, "INVALID_CREDENTIALS")
    log_in(client, account, NEW)


def test_delete_me(client: httpx.Client, account: Account) -> None:
    def delete(password: str) -> httpx.Response:
        return client.post(f"{USERS}/me/delete", json={"password": password}, headers=account.bearer)

    problem(delete("wrong"), 401, "INVALID_CREDENTIALS")
    gone = delete(PASSWORD)
    assert (gone.status_code, gone.json()) == (200, {})
    problem(client.get(f"{USERS}/me", headers=account.bearer), 404, "USER_NOT_FOUND", "User not found")
    refused = client.post(f"{USERS}/login", json={"email": account.email, "password": PASSWORD})
    problem(refused, 401, "INVALID_CREDENTIALS")
    assert client.post(f"{USERS}/register", json=registration(account.email)).status_code == 201


def test_password_reset(client: httpx.Client, edge: Edge, account: Account) -> None:
    def reset(code: str, password: str) -> httpx.Response:
        # As the web client sends it, with an old token.
        body = {"code": code, "newPassword": password}
        return client.post(f"{USERS}/password-reset", json=body, headers={"authorization": "Bearer old"})

    code = run(edge.database.parent, "accounts", "reset-password", account.email).stdout.strip()
    for password, field in (("short", "newPassword"), ("", "newPassword")):
        refused = reset(code, password)
        problem(refused, 422, "VALIDATION_FAILED")
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    done = reset(code, NEW)
    assert done.status_code == 200
    assert done.json().keys() == {"token", "user", "expiresAt", "refreshToken", "refreshExpiresAt"}
    ended(client, {"token": account.token})
    assert client.get(f"{USERS}/me", headers=bearer(done.json()["token"])).json() == done.json()["user"]
    for wrong in (code, "x", f"{account.user_id}.x"):
        refused = reset(wrong, NEW)
        problem(refused, 401, "INVALID_RESET_CODE", "This code is not valid any more")
        assert refused.headers["www-authenticate"] == "Bearer"
    log_in(client, account, NEW)


def test_change_email(client: httpx.Client, account: Account) -> None:
    def change(password: str, email: str) -> httpx.Response:
        body = {"password": password, "newEmail": email}
        return client.post(f"{USERS}/me/email", json=body, headers=account.bearer)

    other, address = an_address(), an_address()
    client.post(f"{USERS}/register", json=registration(other))
    problem(change("wrong", address), 401, "INVALID_CREDENTIALS", "Incorrect email or password")
    problem(change(PASSWORD, other.upper()), 400, "EMAIL_ALREADY_REGISTERED", "Email already registered")
    refused = change("", "x")
    problem(refused, 422, "VALIDATION_FAILED")
    assert [error["field"] for error in refused.json()["errors"]] == ["password", "newEmail"]
    changed = change(PASSWORD, f" {address}")
    assert (changed.status_code, changed.json()["email"]) == (200, address)
    assert client.get(f"{USERS}/me", headers=account.bearer).json() == changed.json()
    assert client.post(f"{USERS}/register", json=registration(account.email)).status_code == 201


def test_a_preflight_allows_delete(client: httpx.Client) -> None:
    asked = {"access-control-request-method": "DELETE", "access-control-request-headers": "authorization"}
    answer = client.options(f"{USERS}/me/sessions/x", headers=ORIGIN | asked)
    assert answer.status_code == 200
    assert "DELETE" in answer.headers["access-control-allow-methods"]
