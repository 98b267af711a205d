"""Refused requests: Envoy's own errors are problem documents too, and no path reaches anything but the contract."""

import gzip
import json
from collections.abc import Iterator
from threading import Event

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rest.conftest import JSON, USERS, Account, Edge, problem, promote, raw
from tests.support.accounts import PASSWORD

NOTHING = "There is nothing at this path."
PREFLIGHT = ("origin: http://localhost:5173", "access-control-request-method: GET")


def test_unknown_paths(client: httpx.Client) -> None:
    for path in (
        "/nothing",
        "/api/v1/users",
        f"{USERS}/me/",
        f"{USERS}/me/ME",
        "/api/v2/users/me",
        "/killrvideo.user.v1",
        "/api",
        "/api/v1/videos",
        f"{USERS}/x/comments",
    ):
        problem(client.get(path), 404, detail=NOTHING)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/users//me",
        "//api/v1/users/me",
        "/api/v1/users/./me",
        "/api/v1/users/x/../me",
        "/api/v1/users/%6de",
        "/api/v1/users%2fme",
        "/api/v1/users%5Cme",
        "/api/v1/users/me%00",
        "/api/v1/users/%ff%fe",
        "/api/v1/users/me;x=1",
        "/api/v1/users\\me",
        "/%2e%2e/api/v1/users/me",
        "/.well-known/../api/v1/users/me",
        "/.well-known/.well-known/jwks.json",
        "/.well-known/./jwks.json",
        "/.well-known//jwks.json",
        "/.Well-Known/jwks.json",
        "/killrvideo.user.v1.UserService/GetMe",
        "/grpc.health.v1.Health/Check",
        '/"<script>',
    ],
)
def test_paths_are_not_normalized(edge: Edge, account: Account, path: str) -> None:
    """Nor can GET reach the path of a gRPC method."""
    status, headers, body = raw(edge, f"GET {path} HTTP/1.1", f"authorization: Bearer {account.token}")
    assert status == 404
    assert account.email not in body
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["status"] == status


def test_wrong_methods(client: httpx.Client) -> None:
    for method, path, allow in (
        ("DELETE", f"{USERS}/me", "GET, PUT"),
        ("GET", f"{USERS}/register", "POST"),
        ("HEAD", f"{USERS}/me", "GET, PUT"),
        ("POST", "/", "GET, HEAD"),
        ("PATCH", "/openapi.json", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        if method == "HEAD":
            assert (answer.status_code, answer.content) == (405, b"")
        else:
            problem(answer, 405)
        assert answer.headers["allow"] == allow


@pytest.mark.parametrize("target", [f"{USERS}/me?userId=x", f"{USERS}/me??", "/?x=1", "/openapi.json?x"])
def test_unexpected_queries_are_refused(client: httpx.Client, account: Account, target: str) -> None:
    problem(client.get(target, headers=account.bearer), 400)


def test_an_empty_query_is_no_query(client: httpx.Client, edge: Edge, account: Account) -> None:
    promote(edge, account)
    for target in ("/", "/openapi.json", f"{USERS}/me", f"{USERS}/{account.user_id}", "/api/v1/moderation/users"):
        answer = client.get(f"{target}?", headers=account.bearer)
        assert (answer.status_code, answer.request.url.raw_path) == (200, f"{target}?".encode())
    for method, target, body in (
        ("PUT", f"{USERS}/me", {}),
        ("POST", f"{USERS}/login", {"email": account.email, "password": PASSWORD}),
        ("POST", f"/api/v1/moderation/users/{account.user_id}/assign-moderator", None),
        ("DELETE", f"{USERS}/me/sessions/{account.user_id}", None),
    ):
        assert client.request(method, f"{target}?", json=body, headers=account.bearer).status_code == 200
    problem(client.get("/nothing?"), 404)
    problem(client.get(f"{USERS}/me?"), 401, "NOT_AUTHENTICATED")


def test_query_parameters_cannot_replace_a_body(client: httpx.Client) -> None:
    problem(client.post(f"{USERS}/login?email=x", json={}), 400)


@pytest.mark.parametrize("body", [b"{not json", b'{"email":', b"\xff\xfe", b"null x", b'{"email":"\\ud800"}', b"{} {}"])
def test_bodies_that_are_not_json_are_refused(client: httpx.Client, body: bytes) -> None:
    problem(client.post(f"{USERS}/login", content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"email":1}', "email"),
        (b'{"firstName":true}', "firstName"),
        (b'{"first_name":{"<b>":1}}', "firstName"),
        (b'{"<\\"b":1,"password":1.5}', "password"),
        (b'{"email":["a"]}', ""),
        (b"[]", ""),
        (b'"text"', ""),
        (b"null", ""),
    ],
)
def test_values_of_the_wrong_type_are_422(client: httpx.Client, body: bytes, field: str) -> None:
    answer = client.post(f"{USERS}/register", content=body, headers=JSON)
    problem(answer, 422, "VALIDATION_FAILED")
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("body", [b"{email: 'x', password: ''}", b'{"email":"x","email":"y","more":{},}'])
def test_lenient_json_is_still_validated(client: httpx.Client, body: bytes) -> None:
    """docs/rest.md says what Envoy's parser accepts. The contract's rules apply to whatever it accepts."""
    problem(client.post(f"{USERS}/login", content=body, headers=JSON), 422, "VALIDATION_FAILED")


KINDS = ["text/plain", "application/x-www-form-urlencoded", "application/json, text/plain", ""]
KINDS += ["application/grpcx", "application/grpc;x", "application/grpc-webx"]  # Envoy does not treat these as gRPC


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_of_other_content_types_are_refused(client: httpx.Client, kind: str) -> None:
    problem(client.post(f"{USERS}/login", content=b"{}", headers={"content-type": kind}), 415)


def test_compressed_bodies_are_refused(client: httpx.Client) -> None:
    problem(
        client.post(f"{USERS}/login", content=gzip.compress(b"{}"), headers=JSON | {"content-encoding": "gzip"}), 415
    )


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto"])
def test_rest_calls_with_grpcs_content_type_get_problems(client: httpx.Client, account: Account, kind: str) -> None:
    """Envoy puts its replies to such requests into gRPC's headers."""
    headers = account.bearer | {"content-type": kind}
    for method, path, status in (
        ("GET", f"{USERS}/me", 415),
        ("PUT", f"{USERS}/me", 415),
        ("GET", "/", 415),
        ("GET", "/nothing", 404),
        ("DELETE", f"{USERS}/me", 405),
        ("GET", f"{USERS}/me?x=1", 400),
    ):
        answer = client.request(method, path, headers=headers)
        problem(answer, status)
        assert not [name for name in answer.headers if name.startswith("grpc-")]


def test_a_body_without_a_content_type_is_refused(edge: Edge) -> None:
    """Also a chunked one, which no header announces. Without a body, none is needed."""
    line = f"POST {USERS}/login HTTP/1.1"
    status, _, text = raw(edge, line, "transfer-encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n")
    assert (status, json.loads(text)["status"]) == (415, 415)
    for headers in (["transfer-encoding: chunked"], ["content-length: 0"], []):
        body = b"0\r\n\r\n" if "chunked" in str(headers) else b""
        status, _, text = raw(edge, line, *headers, body=body)
        assert (status, json.loads(text)["code"]) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize("kind", [*KINDS, "application/grpc-web"])
def test_get_ignores_the_content_type(client: httpx.Client, account: Account, kind: str) -> None:
    me = client.get(f"{USERS}/me", headers=account.bearer | {"content-type": kind})
    assert (me.status_code, me.json()["email"]) == (200, account.email)


def test_headers_that_grpc_would_read_are_ignored(client: httpx.Client, account: Account) -> None:
    odd = {"x-bin": "%", "grpc-tags-bin": "!!", "grpc-encoding": "gzip", "cookie": "a" * 12_000}
    assert client.get(f"{USERS}/me", headers=account.bearer | odd).status_code == 200


def test_the_content_type_may_have_a_charset(client: httpx.Client) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    problem(client.post(f"{USERS}/login", content=b"{}", headers=headers), 422, "VALIDATION_FAILED")


def test_large_bodies_and_headers_are_refused(client: httpx.Client) -> None:
    problem(client.post(f"{USERS}/login", content=b"{" + b" " * 65_536, headers=JSON), 413)
    problem(client.get(f"{USERS}/me", headers={"x-large": "x" * 20_000}), 431)
    problem(client.get(f"{USERS}/me", headers={f"x-{number}": "x" for number in range(200)}), 431)


def test_large_bodies_without_a_length_are_refused(client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * 10_000
            Event().wait(0.01)  # makes Envoy read each piece separately, which must not change its response

    for content in (pieces(), iter([b" " * 100_000])):
        problem(client.post(f"{USERS}/login", content=content, headers=JSON), 413)


@pytest.mark.parametrize(
    ("request_line", "header", "status", "instance"),
    [
        ("GET / HTTP/1.1", f"x-large: {'x' * 100_000}", 431, "/"),
        ("GARBAGE", "x: x", 400, ""),
        ("BREW / HTTP/1.1", "x: x", 400, ""),
        ("CONNECT example.org:1 HTTP/1.1", "x: x", 404, ""),
        ("GET / HTTP/1.1", "transfer-encoding: odd", 501, ""),
    ],
)
def test_requests_refused_before_routing_get_problems(
    edge: Edge, request_line: str, header: str, status: int, instance: str
) -> None:
    answered, headers, text = raw(edge, request_line, header)
    assert (answered, headers["content-type"]) == (status, "application/problem+json")
    assert json.loads(text).keys() == {"type", "title", "status", "detail", "instance"}
    assert json.loads(text)["instance"] == instance


def test_http_1_0(edge: Edge) -> None:
    status, _, text = raw(edge, "GET / HTTP/1.0")
    assert (status, json.loads(text)) == (200, {"message": "Welcome to KillrVideo!"})


def test_problems_never_quote_the_body(client: httpx.Client) -> None:
    hostile = '{"message":"</script><script>alert(1)</script>\\u0000","details":[{"reason":"OVERLOADED"}]'
    for answer in (
        client.post(f"{USERS}/login", content=hostile, headers=JSON),
        client.post(f"{USERS}/login", json={"email": hostile, "password": hostile}),
        client.post(f"{USERS}/register", json={"email": hostile, "firstName": "\0" + hostile}),
    ):
        assert "alert" not in answer.text
        assert answer.json()["status"] == answer.status_code


fuzzed = settings(max_examples=150)
# Without "#": Envoy refuses fragments before any filter runs, and answers a GET in gRPC if its content type is gRPC's.
VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#")
BODIES = st.dictionaries(st.text(), st.text() | st.integers() | st.none()).map(lambda body: json.dumps(body).encode())
HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)


@fuzzed
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"]),
    path=st.sampled_from(["/", f"{USERS}/me", f"{USERS}/login", f"{USERS}/register"])
    | st.text(VISIBLE).map("/".__add__),
    query=st.just("") | st.text(VISIBLE).map("?".__add__),
    body=st.binary(max_size=300) | BODIES,
    kind=st.sampled_from(["application/json", "text/plain", "application/json; charset=latin-1", *KINDS])
    | HEADER.map("application/grpc".__add__)
    | HEADER,
    token=HEADER,
)
def test_fuzzed_requests_get_well_formed_responses(
    edge: Edge, method: str, path: str, query: str, body: bytes, kind: str, token: str
) -> None:
    headers = [
        f"content-type: {kind.strip()}",
        f"authorization: Bearer {token.strip()}",
        f"content-length: {len(body)}",
    ]
    status, answered, text = raw(edge, f"{method} {path}{query} HTTP/1.1", *headers, body=body)
    assert status < 500
    if answered["content-type"].startswith("application/grpc"):
        assert status == 200  # gRPC requests get gRPC responses
        assert (method, kind[:16]) == ("POST", "application/grpc"), (path, query, body, kind, text)
    else:
        parsed = json.loads(text)
        if status >= 400:
            assert answered["content-type"] == "application/problem+json"
            assert parsed["status"] == status
            assert parsed["detail"]


def test_a_body_that_does_not_arrive_is_408(edge: Edge) -> None:
    headers = ("content-type: application/json", "content-length: 20")
    status, _, text = raw(edge, f"POST {USERS}/login HTTP/1.1", *headers, body=b'{"email":')
    assert (status, json.loads(text)["detail"]) == (408, "The request did not arrive in time.")


@pytest.mark.parametrize(
    ("line", "has_host", "status"),
    [("GET / HTTP/1.1", False, 400), ("GET /#x HTTP/1.1", True, 400), ("GET / HTTP/1.1", True, 200)],
)
@pytest.mark.parametrize("odd", ["<b>planted", "x" * 200, '"planted'])
def test_an_odd_request_id_is_never_returned(edge: Edge, line: str, has_host: bool, status: int, odd: str) -> None:
    """This includes requests that Envoy refuses before edge.lua runs."""
    answered, headers, _ = raw(edge, line, f"x-request-id: {odd}", has_host=has_host)
    assert (answered, odd in str(headers)) == (status, False)
    answered, headers, _ = raw(edge, "OPTIONS / HTTP/1.1", *PREFLIGHT, f"x-request-id: {odd}")
    assert (answered, odd in str(headers)) == (200, False)
    assert odd not in edge.log.read_text()


def test_a_valid_request_id_is_returned(client: httpx.Client) -> None:
    for path, status in (("/", 200), ("/nothing", 404), (f"{USERS}/me", 401)):
        answer = client.get(path, headers={"x-request-id": "a-sane/one:1"})
        assert (answer.status_code, answer.headers.get_list("x-request-id")) == (status, ["a-sane/one:1"])
        assert len(client.get(path, headers={"x-request-id": "<odd>"}).headers["x-request-id"]) == 36
