"""Which requests go to siblings, and what they learn of the caller."""

import json
import struct
from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from killrvideo.envoy.auth_service_pb2 import CheckRequest
from killrvideo.envoy.auth_service_pb2_grpc import AuthorizationStub

from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.edge.contract import rest_paths
from tests.rest.conftest import USERS, Account, problem, raw, registered
from tests.rest.site import Site
from tests.rest.test_http2 import Fields, Http2
from tests.support.accounts import PASSWORD
from tests.support.services import added_to_file
from tests.support.tokens import claims, signed

NOTHING = "There is nothing at this path."
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
VIDEOS = "/api/v1/videos"
IDENTITY = ("x-user-id", "x-user-roles", "x-session-id")
CHECK = "/envoy.service.auth.v3.Authorization/Check"


@pytest.fixture
def account(site: Site) -> Account:
    return registered(site.client)


def filled(template: str) -> str:
    """Return a path that a template matches."""
    user_id = "11111111-1111-4111-8111-111111111111"
    return template.replace("{user_id}", user_id).replace("{role}", "creator").replace("{session_id}", user_id)


OURS = {filled(template): rpcs for template, rpcs in rest_paths().items()}
BELOW = [
    f"{filled(template)}{end}"
    for template in rest_paths()
    if not template.endswith("}")
    for end in ("/", "/x/", "/x/y")
]
IN_OTHER_LETTERS = [
    f"/api{changed}"
    for path in OURS
    if (end := path.removeprefix("/api")) != path
    for changed in (end.upper(), end.title(), end[:-1] + end[-1].upper(), end.replace("/v1", "/V1"))
    if changed != end
]


@pytest.mark.parametrize(
    "path",
    [
        *("/api", "/api/", "/api/v1", "/api/v1/users", "/api/v1/users/", "/api/v1/users?x=1", "/api/v2/users/me"),
        *(f"{USERS}/11111111-1111-4111-8111-111111111111/comments", f"{USERS}/x/", f"{USERS}/x/me", f"{USERS}x/me"),
        *("/api/v1/users:other", "/api/v1/moderation", "/api/v1/moderation/flags", "/api/v1/moderation/eventsx"),
        *(VIDEOS, f"{VIDEOS}/x/rating", f"{VIDEOS}/users/login", "/api/v1/Videos", "/api/V1/Users/x/comments"),
        *(f"{VIDEOS}/a%20b%C3%A9%3F%7E,x=1,(2)|[3]@:$&'*+!=^`{{}}<>", f'{VIDEOS}?q=%2F../%2e//&a=%00"x\\&a={{}}|?'),
    ],
)
def test_paths_of_siblings(site: Site, path: str) -> None:
    status, _, body = raw(site, f"GET {path} HTTP/1.1")
    assert (status, body) == (200, "sibling")
    assert site.sibling.last.target == path


def test_every_method_reaches_siblings(site: Site) -> None:
    assert all(site.reaches_sibling(method, "/api/v1/users/x/comments") for method in METHODS)


def test_paths_of_the_contract_are_ours_with_any_method(site: Site) -> None:
    for path, rpcs in OURS.items():
        for method in METHODS:
            answer = site.client.request(method, path, json={})
            assert (answer.status_code == 405) == (method not in rpcs), (method, path)
    assert site.sibling.received == []


@pytest.mark.parametrize("path", [*IN_OTHER_LETTERS, *BELOW])
def test_what_may_be_a_mistyped_login_is_not_handed_to_siblings(site: Site, path: str) -> None:
    secret = {"email": "ann@example.org", "password": PASSWORD}
    refused = site.client.post(path, json=secret)
    problem(refused, 405 if refused.headers.get("allow") == "GET" else 404)  # /users/logiN could be of a user
    assert not any(site.reaches_sibling(method, path) for method in METHODS)


@pytest.mark.parametrize("path", ["/videos", "/apis", "/api.json", "/API/v1/videos", "/envoy", "/x/api/v1/videos"])
def test_paths_outside_of_api_stay_nothing(site: Site, path: str) -> None:
    problem(site.client.get(path), 404, detail=NOTHING)
    assert site.sibling.received == []


@pytest.mark.parametrize(
    "path",
    [
        *("/api//v1/videos", "//api/v1/videos", f"{VIDEOS}//", f"{VIDEOS}/../users/login", f"{VIDEOS}/.git"),
        *(
            f"{VIDEOS}{code}x"
            for code in ("%2f", "%2F", "%5c", "%5C", "%2e", "%2E%2e", "%00", "%0a", "%7f", "%61", "%4C")
        ),
        *("/api/v1/users/%6cogin/x", "/api/v1/user%73/login", "/api/%761/users/login", "/%61pi/v1/videos"),
        *(
            "/api/v1/users/password%2Dreset/",
            "/api/v1/users%3AbatchGet",
            "/api/v1/users/login%3Bx/",
            "/api/v1/users%252flogin",
        ),
        *("/api/v1/users;v=1/login", "/api/;/v1/users/login", "/api/v1/users/login;x/", "/api/v1/users%252flogin"),
        *(
            f"{VIDEOS}%",
            f"{VIDEOS}%2",
            f"{VIDEOS}%zz",
            f"{VIDEOS}%c3%",
            f"{VIDEOS}\\x",
            f'{VIDEOS}/"',
        ),
    ],
)
def test_odd_paths_are_refused(site: Site, path: str) -> None:
    refused_path(site, path, 404)


def test_paths_beyond_ascii_are_refused(site: Site) -> None:
    refused_path(site, f"{VIDEOS}/\xe9", 400)


def refused_path(site: Site, path: str, expected: int) -> None:
    """Check that a path is refused with this status, and reaches no sibling."""
    status, headers, body = raw(site, f"POST {path} HTTP/1.1", "content-length: 0")
    assert (status, headers["content-type"]) == (expected, "application/problem+json")
    assert json.loads(body)["status"] == status
    assert site.sibling.received == []


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web+proto"])
def test_grpc_is_ours(site: Site, kind: str) -> None:
    headers = {"content-type": kind}
    answer = site.client.post(VIDEOS, content=struct.pack(">BI", 0, 0), headers=headers)
    assert (answer.status_code, answer.headers["content-type"][:16]) == (200, "application/grpc")
    problem(site.client.put(VIDEOS, headers=headers), 404, detail=NOTHING)
    assert site.sibling.received == []


def identity(site: Site) -> dict[str, list[str]]:
    """Return what the sibling learned from the last request."""
    return {name: values for name in IDENTITY if (values := site.sibling.last.values(name))}


def test_siblings_learn_who_is_calling(site: Site, account: Account) -> None:
    session_id = site.client.get(f"{USERS}/me/sessions", headers=account.bearer).json()["sessions"][0]["sessionId"]
    known = {"x-user-id": [account.user_id], "x-user-roles": ["viewer"], "x-session-id": [session_id]}
    assert site.reaches_sibling("GET", VIDEOS, headers=account.bearer)
    assert identity(site) == known
    assert site.sibling.last.values("authorization") == [f"Bearer {account.token}"]
    site.change(account, "roles", '["moderator", "viewer", "creator"]')
    assert site.reaches_sibling("POST", f"{USERS}/x/comments", headers=account.bearer, json={})
    assert identity(site) == known | {"x-user-roles": ["viewer,creator,moderator"]}
    assert site.reaches_sibling("GET", VIDEOS)
    assert identity(site) == {}


FORGED: list[Fields] = [
    [(name, "forged") for name in IDENTITY],
    [(name.title(), "forged") for name in IDENTITY] * 2,
    [(name.upper(), "forged") for name in IDENTITY] + [(name, "") for name in IDENTITY],
    [(name.replace("-", "_"), "forged") for name in IDENTITY],
    [(name.replace("-", "_", 1).upper(), "forged") for name in IDENTITY],
    [("connection", ", ".join(IDENTITY)), ("x-envoy-original-path", VIDEOS)],
]


@pytest.mark.parametrize("fields", FORGED)
def test_forged_identities_do_not_pass(site: Site, account: Account, fields: Fields) -> None:
    lines = [f"{name}: {value}" for name, value in fields]
    assert raw(site, f"GET {VIDEOS} HTTP/1.1", *lines)[0] == 200
    assert learned(site) == {}
    bearer = [f"authorization: Bearer {account.token}"]
    assert raw(site, f"GET {VIDEOS} HTTP/1.1", *lines, *bearer)[0] == 200
    assert learned(site).keys() == {*IDENTITY}
    assert identity(site)["x-user-id"] == [account.user_id]
    assert "forged" not in str(site.sibling.received)


def learned(site: Site) -> dict[str, str]:
    """Return the headers of the last request that some server could take for an identity."""
    found = [(name.lower().replace("_", "-"), value) for name, value in site.sibling.last.headers]
    assert len([name for name, _ in found if name in IDENTITY]) in (0, len(IDENTITY))
    return {name: value for name, value in found if name in IDENTITY}


def test_forged_identities_do_not_pass_over_http2(site: Site, account: Account) -> None:
    forged: Fields = [(name, "forged") for name in IDENTITY] * 2 + [("x_user_id", "forged")]
    connection = Http2(site)
    for more in ([], list(account.bearer.items())):
        for trailers in (None, forged):
            stream = connection.send("POST", VIDEOS, forged + more, b"{}", trailers)
            assert connection.answer(stream)[0][":status"] == "200"
            assert bool(learned(site)) == bool(more)
    connection.close()
    assert len(site.sibling.received) == 4
    assert "forged" not in str(site.sibling.received)


def test_trailers_of_chunked_requests_do_not_pass(site: Site) -> None:
    body = b"2\r\n{}\r\n0\r\nx-user-id: forged\r\n\r\n"
    headers = ("transfer-encoding: chunked", "trailer: x-user-id", "content-type: application/json")
    assert raw(site, f"POST {VIDEOS} HTTP/1.1", *headers, body=body)[0] == 200
    assert site.sibling.last.body == b"{}"
    assert "forged" not in str(site.sibling.received)


BAD: dict[str, tuple[Iterable[str], str]] = {
    "empty": ([""], "NOT_AUTHENTICATED"),
    "no token": (["Bearer"], "NOT_AUTHENTICATED"),
    "another scheme": (["Basic YTpi"], "NOT_AUTHENTICATED"),
    "garbage": (["Bearer garbage"], "TOKEN_INVALID"),
    "not UTF-8": (["Bearer \xff\xfe"], "TOKEN_INVALID"),
    "too long": (["Bearer " + "x" * 60_000], "TOKEN_INVALID"),
    "expired": ([f"Bearer {signed(claims('x', 'y', exp=1))}"], "TOKEN_EXPIRED"),
    "of nobody": ([f"Bearer {signed(claims('11111111-1111-4111-8111-111111111111', 'x'))}"], "SESSION_ENDED"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_tokens_do_not_reach_siblings(site: Site, kind: str) -> None:
    values, code = BAD[kind]
    for method in ("GET", "POST"):
        headers = [(b"authorization", value.encode("latin-1")) for value in values]
        answer = site.client.request(method, VIDEOS, headers=[*headers, (b"origin", b"http://localhost:5173")])
        problem(answer, 401, code)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
        assert not [name for name in answer.headers if name.startswith(("x-problem", "x-envoy", "grpc-", "server"))]
    head = site.client.head(VIDEOS, headers=headers)
    assert (head.status_code, head.content) == (401, b"")
    assert site.sibling.received == []


def test_two_tokens_do_not_reach_siblings(site: Site, account: Account) -> None:
    good = f"authorization: Bearer {account.token}"
    for lines in ([good, good], [good, "authorization: Basic YTpi"], ["Authorization: x", good]):
        assert raw(site, f"GET {VIDEOS} HTTP/1.1", *lines)[0] == 401
    assert site.sibling.received == []


def test_services_do_not_reach_siblings(site: Site) -> None:
    token = added_to_file(site.database, *Grant)
    answer = site.client.get(VIDEOS, headers={"authorization": f"Bearer {token}"})
    problem(answer, 403, "GRANT_REQUIRED", "Only people can do this, not services")
    assert site.sibling.received == []


def test_what_happens_to_an_account_shows_in_the_next_request(site: Site, account: Account) -> None:
    def answer() -> tuple[int, str | None]:
        response = site.client.get(VIDEOS, headers=account.bearer)
        return response.status_code, None if response.text == "sibling" else response.json()["code"]

    for _ in range(20):
        assert answer() == (200, None)
        again = site.client.post(f"{USERS}/login", json={"email": account.email, "password": PASSWORD})
        assert site.client.post(f"{USERS}/logout", headers=account.bearer).status_code == 200
        assert answer() == (401, "SESSION_ENDED")
        account.token = again.json()["token"]
    site.change(account, "roles", '["creator"]')
    assert answer() == (200, None)
    assert identity(site)["x-user-roles"] == ["creator"]
    site.change(account, "roles", "[]")
    assert answer() == (403, "NO_ROLES_ASSIGNED")
    site.change(account, "roles", '["viewer"]')
    site.change(account, "account_status", "suspended")
    assert answer() == (403, "ACCOUNT_SUSPENDED")
    site.change(account, "account_status", "active")
    assert answer() == (200, None)
    deleted = site.client.post(f"{USERS}/me/delete", json={"password": PASSWORD}, headers=account.bearer)
    assert deleted.status_code == 200
    assert answer() == (401, "SESSION_ENDED")


def test_the_check_cannot_be_called_from_outside(site: Site, account: Account) -> None:
    request = CheckRequest()
    request.attributes.request.http.headers["authorization"] = f"Bearer {account.token}"
    with grpc.insecure_channel(site.service) as inside, grpc.insecure_channel(site.url[7:]) as outside:
        assert AuthorizationStub(inside).Check(request).HasField("ok_response")
        with pytest.raises(grpc.RpcError) as caught:
            AuthorizationStub(outside).Check(request)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, NOTHING)
    frame = struct.pack(">BI", 0, request.ByteSize()) + request.SerializeToString()
    kinds = ["application/grpc-web+proto", "application/grpc-web", "application/grpc+proto", "application/grpc;x=1"]
    for path in (CHECK, f"{CHECK}?x", f"{CHECK}/", f"/{CHECK}", f"/api/..{CHECK}", CHECK.replace("Check", "%43heck")):
        for kind in [*kinds, "application/json", "Application/Grpc"]:
            answer: Any = site.client.post(path, content=frame, headers={"content-type": kind})
            assert account.user_id not in answer.text + str(answer.headers)
    assert site.sibling.received == []
    problem(site.client.post(CHECK, json={}), 404, detail=NOTHING)
