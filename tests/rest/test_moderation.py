"""Calls about other accounts over REST, through a real Envoy: profiles, search, roles, suspension, audit trail."""

from uuid import uuid4

import httpx
import pytest

from tests.rest.conftest import JSON, USERS, Account, Edge, problem, promote, registered, registration
from tests.support.accounts import PASSWORD, an_address

MODERATION = "/api/v1/moderation"
# Headers as the web client sends them, from another origin and with cookies.
BROWSER = JSON | {"origin": "http://localhost:5173", "cookie": "theme=dark"}


@pytest.fixture
def moderator(client: httpx.Client, edge: Edge) -> Account:
    account = registered(client)
    promote(edge, account)
    return account


def named(client: httpx.Client, email: str, first_name: str) -> str:
    made = client.post(f"{USERS}/register", json=registration(email) | {"firstName": first_name})
    return str(made.json()["userId"])


def from_browser(answer: httpx.Response) -> httpx.Response:
    """Check that a browser would let a page of the other origin read the response."""
    assert answer.headers["access-control-allow-origin"] == BROWSER["origin"]
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "x-next-page-token" in answer.headers["access-control-expose-headers"]
    return answer


def test_a_profile_is_public(client: httpx.Client, account: Account) -> None:
    for headers in ({}, {"authorization": "Bearer old"}, BROWSER):
        profile = client.get(f"{USERS}/{account.user_id}", headers=headers)
        assert profile.status_code == 200
        assert profile.json().keys() == {"userId", "firstName", "lastName", "createdDate"}
        assert profile.json()["userId"] == account.user_id
    problem(client.get(f"{USERS}/{uuid4()}"), 404, "USER_NOT_FOUND", "User not found")
    problem(client.get(f"{USERS}/x"), 422, "VALIDATION_FAILED")
    problem(client.get(f"{USERS}/register"), 405)
    problem(client.get(f"{USERS}/{account.user_id}:assign"), 404)
    assert client.get(f"{USERS}/me", headers=account.bearer).json()["email"] == account.email


def test_many_profiles(client: httpx.Client, account: Account) -> None:
    missing = str(uuid4())
    body = {"userIds": [missing, account.user_id, account.user_id]}
    answer = client.post(f"{USERS}:batchGet", json=body, headers=account.bearer)
    assert answer.status_code == 200
    assert [user["userId"] for user in answer.json()["users"]] == [account.user_id]
    assert answer.json()["missingUserIds"] == [missing]
    for ids, field in (([], "userIds"), ([missing] * 101, "userIds"), ([missing, "x"], "userIds[1]")):
        refused = client.post(f"{USERS}:batchGet", json={"userIds": ids}, headers=account.bearer)
        problem(refused, 422, "VALIDATION_FAILED")
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    for wrong_type in ("1", "{}", "[1]", f'["{missing}",true,2]', "[{}]"):
        content = f'{{"userIds":{wrong_type}}}'
        wrong = client.post(f"{USERS}:batchGet", content=content, headers=account.bearer | JSON)
        problem(wrong, 422, "VALIDATION_FAILED", "1 field is invalid: userIds has the wrong type")
        assert [error["field"] for error in wrong.json()["errors"]] == ["userIds"]
    problem(client.post(f"{USERS}:batchGet", json=body), 401, "NOT_AUTHENTICATED")
    wrong = client.get(f"{USERS}:batchGet", headers=account.bearer)
    problem(wrong, 405)
    assert wrong.headers["allow"] == "POST"


def test_a_search_answers_with_an_array(client: httpx.Client, moderator: Account) -> None:
    mark = uuid4().hex
    ann, zoe = named(client, f"ann.{mark}@example.org", "Ann"), named(client, f"zoë.{mark}@example.org", 'Zoë "],[{')
    headers = moderator.bearer | BROWSER
    found = from_browser(client.get(f"{MODERATION}/users", params={"q": mark}, headers=headers))
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/json"
    assert "x-next-page-token" not in found.headers
    assert {user["userId"] for user in found.json()} == {ann, zoe}
    assert found.json()[0].keys() >= {
        "userId",
        "firstName",
        "lastName",
        "email",
        "roles",
        "accountStatus",
        "createdDate",
    }
    (user,) = client.get(f"{MODERATION}/users?q=ZOE+{mark}", headers=headers).json()
    assert (user["userId"], user["firstName"]) == (zoe, 'Zoë "],[{')
    (user,) = client.get(f"{MODERATION}/users?q=zo%C3%AB.{mark}%40exa", headers=headers).json()
    assert user["userId"] == zoe
    assert client.get(f"{MODERATION}/users", params={"q": f"{mark} nobody"}, headers=headers).json() == []


def test_a_search_in_another_encoding_is_a_violation_of_its_parameter(client: httpx.Client, moderator: Account) -> None:
    answer = client.get(f"{MODERATION}/users?q=m%E4dchen", headers=moderator.bearer)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "q", "description": "must be in UTF-8"}]


def test_pages_of_a_search(client: httpx.Client, moderator: Account) -> None:
    mark = uuid4().hex
    ids = {named(client, f"{mark}.{number}@example.org", "Ann") for number in range(5)}
    params, found = {"q": mark, "pageSize": "2"}, []
    while True:
        page = client.get(f"{MODERATION}/users", params=params, headers=moderator.bearer)
        found += [user["userId"] for user in page.json()]
        if "x-next-page-token" not in page.headers:
            break
        assert len(page.json()) == 2
        params["pageToken"] = page.headers["x-next-page-token"]
    assert (len(found), set(found)) == (5, ids)
    everybody = client.get(f"{MODERATION}/users", headers=moderator.bearer)
    assert 5 < len(everybody.json()) <= 20
    for wrong, field in (
        ({"pageSize": "101"}, "pageSize"),
        ({"pageSize": "-1"}, "pageSize"),
        ({"pageSize": "many"}, "pageSize"),
        ({"q": "x" * 255}, "q"),
        ({"q": "other", "pageToken": params["pageToken"]}, "pageToken"),
        ({"q": mark, "pageToken": "x"}, "pageToken"),
    ):
        refused = client.get(f"{MODERATION}/users", params=wrong, headers=moderator.bearer)
        problem(refused, 422, "VALIDATION_FAILED")
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    problem(client.get(f"{MODERATION}/users?unknown=1", headers=moderator.bearer), 400)


def test_only_moderators_moderate(client: httpx.Client, account: Account) -> None:
    other = f"{MODERATION}/users/{uuid4()}"
    calls = [("GET", f"{MODERATION}/users"), ("GET", f"{MODERATION}/events"), ("POST", f"{other}/assign-moderator")]
    calls += [
        ("POST", f"{other}/{end}") for end in ("revoke-moderator", "roles/creator:assign", "suspend", "reinstate")
    ]
    for verb, path in calls:
        refused = client.request(verb, path, headers=account.bearer | BROWSER)
        detail = "User does not have required roles: ['moderator']"
        problem(from_browser(refused), 403, "ROLE_REQUIRED", detail)
        anonymous = client.request(verb, path, headers=BROWSER)
        problem(anonymous, 401, "NOT_AUTHENTICATED", "Not authenticated")
        assert anonymous.headers["www-authenticate"] == "Bearer"


def test_the_moderation_pages_of_the_web_client(client: httpx.Client, moderator: Account) -> None:
    """Send exactly the web client's requests: a JSON content type on GET, POST without a body, another origin."""
    preflight = client.options(
        f"{MODERATION}/users",
        headers={
            "origin": BROWSER["origin"],
            "access-control-request-method": "GET",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-credentials"] == "true"
    email = an_address()
    user_id = named(client, email, "Bob")
    headers = moderator.bearer | BROWSER
    (user,) = from_browser(client.get(f"{MODERATION}/users?q={email.replace('@', '%40')}", headers=headers)).json()
    assert (user["userId"], user["roles"]) == (user_id, ["viewer"])
    for end, roles in (("assign-moderator", ["viewer", "moderator"]), ("revoke-moderator", ["viewer"])):
        for _ in range(2):  # the second call changes nothing
            changed = from_browser(client.post(f"{MODERATION}/users/{user_id}/{end}", headers=headers))
            assert (changed.status_code, changed.json()["roles"]) == (200, roles)
    events = client.get(f"{MODERATION}/events", params={"userId": user_id}, headers=headers).json()["events"]
    assert [(event["action"], event["reason"]) for event in events] == [
        ("role_revoked", f"POST {MODERATION}/users/{user_id}/revoke-moderator"),
        ("role_assigned", f"POST {MODERATION}/users/{user_id}/assign-moderator"),
        ("registered", ""),
    ]


def test_short_paths_take_a_reason_too(client: httpx.Client, moderator: Account) -> None:
    user_id = named(client, an_address(), "Bob")
    path = f"{MODERATION}/users/{user_id}/assign-moderator"
    problem(client.post(path, json={"reason": " "}, headers=moderator.bearer), 422, "VALIDATION_FAILED")
    problem(client.post(path, content="{", headers=moderator.bearer | JSON), 400)
    problem(client.post(path, content="[", headers=moderator.bearer | JSON), 422, "VALIDATION_FAILED")
    problem(client.get(path, headers=moderator.bearer), 405)
    assert client.post(path, json={"reason": "helps a lot"}, headers=moderator.bearer).status_code == 200
    assert client.post(f"{path[:-17]}/revoke-moderator", json={}, headers=moderator.bearer).status_code == 200
    events = client.get(f"{MODERATION}/events?userId={user_id}", headers=moderator.bearer).json()["events"]
    assert [event["reason"] for event in events][1:] == ["helps a lot", ""]


def test_a_body_that_contradicts_the_path_is_refused(client: httpx.Client, moderator: Account) -> None:
    path = f"{MODERATION}/users/{moderator.user_id}"
    detail = "1 field is invalid: {} differs from the one in the path"
    for end, body, field in (
        ("roles/creator:assign", {"user_id": "x", "reason": "x"}, "userId"),
        ("roles/creator:assign", {"role": 'v" of the field x is conflicting with', "reason": "x"}, "role"),
        ("assign-moderator", {"role": "creator", "reason": "x"}, "role"),
        ("suspend", {"user_id": str(uuid4()), "reason": "x"}, "userId"),
    ):
        answer = client.post(f"{path}/{end}", json=body, headers=moderator.bearer)
        problem(answer, 422, "VALIDATION_FAILED", detail.format(field))
        assert answer.json()["errors"] == [{"field": field, "description": "differs from the one in the path"}]
    # Envoy ignores this spelling in the body, and uses the path.
    body = {"userId": str(uuid4()), "reason": "x"}
    agreed = client.post(f"{path}/roles/creator:assign", json=body, headers=moderator.bearer)
    assert (agreed.status_code, agreed.json()["userId"]) == (200, moderator.user_id)


def test_roles_and_status(client: httpx.Client, moderator: Account) -> None:
    other = registered(client)
    path, why = f"{MODERATION}/users/{other.user_id}", {"reason": "because"}
    changed = client.post(f"{path}/roles/creator:assign", json=why, headers=moderator.bearer)
    assert (changed.status_code, changed.json()["roles"]) == (200, ["viewer", "creator"])
    changed = client.post(f"{path}/roles/creator:revoke", json=why, headers=moderator.bearer)
    assert changed.json()["roles"] == ["viewer"]
    refused = client.post(f"{path}/roles/admin:assign", headers=moderator.bearer)
    problem(refused, 422, "VALIDATION_FAILED")
    assert [error["field"] for error in refused.json()["errors"]] == ["role", "reason"]
    suspended = client.post(f"{path}/suspend", json=why, headers=moderator.bearer)
    assert suspended.json()["accountStatus"] == "suspended"
    problem(client.get(f"{USERS}/me", headers=other.bearer), 403, "ACCOUNT_SUSPENDED", "Account is suspended")
    login = client.post(f"{USERS}/login", json={"email": other.email, "password": PASSWORD})
    problem(login, 401, "INVALID_CREDENTIALS", "Incorrect email or password")
    assert client.post(f"{path}/reinstate", json=why, headers=moderator.bearer).json()["accountStatus"] == "active"
    assert client.get(f"{USERS}/me", headers=other.bearer).status_code == 200
    own = f"{MODERATION}/users/{moderator.user_id}"
    for end in ("revoke-moderator", "suspend", "reinstate"):
        problem(client.post(f"{own}/{end}", json=why, headers=moderator.bearer), 400, "OWN_ACCOUNT")
    unknown = client.post(f"{MODERATION}/users/{uuid4()}/suspend", json=why, headers=moderator.bearer)
    problem(unknown, 404, "USER_NOT_FOUND", "User not found")


def test_pages_of_the_audit_trail(client: httpx.Client, moderator: Account) -> None:
    user_id = named(client, an_address(), "Bob")
    for end in ("suspend", "reinstate", "suspend"):
        client.post(f"{MODERATION}/users/{user_id}/{end}", json={"reason": "r"}, headers=moderator.bearer)
    params, found = {"userId": user_id, "pageSize": "3"}, []
    while True:
        page = client.get(f"{MODERATION}/events", params=params, headers=moderator.bearer).json()
        found += page["events"]
        if not page["nextPageToken"]:
            break
        params["pageToken"] = page["nextPageToken"]
    assert [event["action"] for event in found] == ["suspended", "reinstated", "suspended", "registered"]
    assert found[0].keys() == {
        *("eventId", "action", "actor", "userId", "reason", "requestId", "before", "after", "createdDate")
    }
    everything = client.get(f"{MODERATION}/events", headers=moderator.bearer | BROWSER).json()["events"]
    assert found[0] == everything[0]
    problem(client.get(f"{MODERATION}/events?userId=x", headers=moderator.bearer), 422, "VALIDATION_FAILED")


def test_all_sessions_of_a_user_end(client: httpx.Client, account: Account, moderator: Account) -> None:
    path = f"{MODERATION}/users/{account.user_id}/end-sessions"
    problem(client.post(path, json={}, headers=moderator.bearer), 422, "VALIDATION_FAILED")
    problem(client.post(path, json={"reason": "r"}, headers=account.bearer), 403, "ROLE_REQUIRED")
    for _ in range(2):
        done = client.post(path, json={"reason": "stolen"}, headers=moderator.bearer)
        assert (done.status_code, done.json()) == (200, {})
    problem(client.get(f"{USERS}/me", headers=account.bearer), 401, "SESSION_ENDED", "Session has ended")
    listed = client.get(f"{MODERATION}/events", params={"userId": account.user_id}, headers=moderator.bearer)
    event = listed.json()["events"][0]
    assert (event["action"], event["actor"], event["reason"]) == ("sessions_ended", moderator.user_id, "stolen")
    unknown = client.post(f"{MODERATION}/users/{uuid4()}/end-sessions", json={"reason": "r"}, headers=moderator.bearer)
    problem(unknown, 404, "USER_NOT_FOUND", "User not found")
