"""The REST column of the contract, row by row, through a real Envoy."""

import re
import sqlite3
import subprocess
from uuid import UUID

import httpx
import pytest

from tests.rest.conftest import JSON, USERS, Account, Edge, problem, registration
from tests.support.accounts import PASSWORD, an_address
from tests.support.tokens import claims, signed

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


def test_welcome(client: httpx.Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.json()) == (200, {"message": "Welcome to KillrVideo!"})
    assert answer.headers["content-type"] == "application/json"
    for path in ("/", "/openapi.json"):
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.content))


def test_register(client: httpx.Client) -> None:
    email = an_address()
    answer = client.post(f"{USERS}/register", json=registration(email))
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    user_id = answer.json()["userId"]
    assert answer.json() == {"userId": user_id, "firstName": "Ann", "lastName": "Lee", "email": email}
    again = client.post(f"{USERS}/register", json=registration(email.upper()))
    problem(again, 400, "EMAIL_ALREADY_REGISTERED", "Email already registered")


def test_every_violation(client: httpx.Client) -> None:
    answer = client.post(f"{USERS}/register", json={"email": "nobody", "firstName": ' "\\\n'})
    detail = (
        "3 fields are invalid: email must be an e-mail address, like bob@example.org;"
        " password must have at least 8 characters;"
        " lastName must have 1 to 50 characters, not counting surrounding white space"
    )
    problem(answer, 422, "VALIDATION_FAILED", detail)
    assert [error["field"] for error in answer.json()["errors"]] == ["email", "password", "lastName"]
    assert all(error["description"] for error in answer.json()["errors"])


def test_login_and_me(client: httpx.Client, account: Account) -> None:
    login = client.post(f"{USERS}/login", json={"email": account.email, "password": PASSWORD})
    assert login.status_code == 200
    assert login.json().keys() == {"token", "user", "expiresAt", "refreshToken", "refreshExpiresAt"}
    me = client.get(f"{USERS}/me", headers=account.bearer)
    assert (me.status_code, me.json()) == (200, login.json()["user"])
    assert me.json().keys() == {
        *("userId", "firstName", "lastName", "email", "roles", "accountStatus", "createdDate", "lastLoginDate")
    }
    assert (me.json()["roles"], me.json()["accountStatus"]) == (["viewer"], "active")
    for moment in (me.json()["createdDate"], me.json()["lastLoginDate"], login.json()["expiresAt"]):
        assert RFC_3339.fullmatch(moment)


def test_update_me(client: httpx.Client, account: Account) -> None:
    changed = client.put(f"{USERS}/me", json={"firstName": " Bé "}, headers=account.bearer)
    assert (changed.status_code, changed.json()["firstName"], changed.json()["lastName"]) == (200, "Bé", "Lee")
    assert client.put(f"{USERS}/me", json={}, headers=account.bearer).json() == changed.json()
    refused = client.put(f"{USERS}/me", json={"firstName": ""}, headers=account.bearer)
    problem(refused, 422, "VALIDATION_FAILED")


def test_bad_logins(client: httpx.Client, account: Account) -> None:
    for email, password in ((account.email, "wrong"), (an_address(), PASSWORD), ("x", "y" * 100)):
        answer = client.post(f"{USERS}/login", json={"email": email, "password": password})
        problem(answer, 401, "INVALID_CREDENTIALS", "Incorrect email or password")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("authorization", "code", "detail"),
    [
        (None, "NOT_AUTHENTICATED", "Not authenticated"),
        ("Basic eDp5", "NOT_AUTHENTICATED", "Not authenticated"),
        ("Bearer garbage", "TOKEN_INVALID", "Could not validate credentials"),
        (f"Bearer {signed(claims('x', 'y', exp=1))}", "TOKEN_EXPIRED", "Token has expired"),
        (f"Bearer {signed(claims('x', 'y'))}", "TOKEN_SUBJECT_INVALID", "Invalid token subject"),
    ],
)
def test_bad_tokens(client: httpx.Client, authorization: str | None, code: str, detail: str) -> None:
    answer = client.get(f"{USERS}/me", headers={"authorization": authorization} if authorization else {})
    problem(answer, 401, code, detail)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_internal_headers_never_cross_the_edge(client: httpx.Client, account: Account) -> None:
    given = {
        "x-problem": '{"planted":1}',
        "x-problem-status": "200",
        "x-problem-wanted": "planted",
        "retry-after": "99",
    }
    refused = client.get(f"{USERS}/me", headers=given)
    problem(refused, 401, "NOT_AUTHENTICATED", "Not authenticated")
    for answer in (refused, client.get(f"{USERS}/me", headers=account.bearer | given)):
        assert not given.keys() & answer.headers.keys()
        assert "planted" not in answer.text


def test_an_account_that_is_gone(client: httpx.Client) -> None:
    token = signed(claims("11111111-1111-4111-8111-111111111111", "x"))
    answer = client.get(f"{USERS}/me", headers={"authorization": f"Bearer {token}"})
    problem(answer, 404, "USER_NOT_FOUND", "User not found")


def test_an_account_that_is_suspended(client: httpx.Client, edge: Edge, account: Account) -> None:
    connection = sqlite3.connect(edge.database)
    with connection:
        connection.execute("UPDATE accounts SET account_status = 'suspended' WHERE userid = ?", [account.user_id])
    connection.close()
    answer = client.get(f"{USERS}/me", headers=account.bearer)
    problem(answer, 403, "ACCOUNT_SUSPENDED", "Account is suspended")


def test_requests_of_the_web_client(client: httpx.Client, account: Account) -> None:
    stale = {"authorization": f"Bearer {signed(claims(account.user_id, 'x', exp=1))}"}
    credentials = {"email": account.email, "password": PASSWORD}
    assert client.post(f"{USERS}/login", json=credentials, headers=stale).status_code == 200
    assert client.post(f"{USERS}/register", json=registration(an_address()), headers=stale).status_code == 201
    assert client.get(f"{USERS}/me", headers=JSON | account.bearer | {"cookie": "a=b"}).status_code == 200
    # A POST without a body arrives as an empty message, so required fields are missing.
    problem(client.post(f"{USERS}/login", headers=JSON), 422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    "origin", ["http://localhost:5173", "http://127.0.0.1:3000", "https://[::1]:8443", "http://localhost"]
)
def test_cors_with_credentials(client: httpx.Client, account: Account, origin: str) -> None:
    asked = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization,content-type"}
    preflight = client.options(f"{USERS}/me", headers={"origin": origin} | asked)
    assert preflight.status_code == 200
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    for answer in (
        preflight,
        client.get(f"{USERS}/me", headers={"origin": origin} | account.bearer),
        client.get(f"{USERS}/me", headers={"origin": origin}),
    ):
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost.evil.example", "null", "http://localhost:1@x"]
)
def test_no_cors_headers_for_other_origins(client: httpx.Client, origin: str) -> None:
    for answer in (
        client.options(f"{USERS}/me", headers={"origin": origin, "access-control-request-method": "PUT"}),
        client.get(f"{USERS}/me", headers={"origin": origin}),
    ):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/nothing", f"{USERS}/register"])
def test_cors_on_what_the_edge_answers_itself(client: httpx.Client, path: str) -> None:
    """Without CORS headers, browsers hide the whole response from scripts, even its status."""
    headers = {"origin": "http://localhost:5173"}
    asked = {"access-control-request-method": "GET"}
    for answer in (client.get(path, headers=headers), client.options(path, headers=headers | asked)):
        assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


def test_request_ids(client: httpx.Client) -> None:
    for path in (f"{USERS}/me", "/", "/nothing"):
        for given in ("given-by-me", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "01939f3e-7b3a-7cde-8f00-0123456789ab"):
            assert client.get(path, headers={"x-request-id": given}).headers["x-request-id"] == given
        odd = [{"x-request-id": "<script>"}, {"x-request-id": "x" * 129}, {"x-request-id": "a,b"}, {}]
        made = {client.get(path, headers=headers).headers["x-request-id"] for headers in odd * 25}
        assert len(made) == 100
        assert all(UUID(request_id).version == 4 for request_id in made)


def test_responses_have_security_headers_and_none_of_envoys(client: httpx.Client, account: Account) -> None:
    for answer in (client.get(f"{USERS}/me", headers=account.bearer), client.get(f"{USERS}/me"), client.get("/x")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert not [name for name in answer.headers if name.startswith(("x-envoy", "grpc-", "server"))]


def test_the_calls_on_the_first_screen_work_as_they_stand(edge: Edge) -> None:
    calls = edge.banner.partition(":\n")[2]
    assert calls.count("curl") == 3
    done = subprocess.run(["sh", "-e", "-c", calls], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.count('"email":"ann@example.org"') == 2, done.stdout + done.stderr
