"""Requests and answers of siblings pass unchanged, and what is told when there is no answer."""

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from threading import Event
from typing import Any

import httpx
import pytest
from aiohttp import web

from killrvideo_grpc.domain.errors import Overloaded, StoreUnavailable
from tests.rest.conftest import Account, envoy, is_ready, problem, raw, registered
from tests.rest.site import Site
from tests.rest.test_siblings import VIDEOS
from tests.support.eventually import eventually
from tests.support.ports import free_port

MIB = 1 << 20
BLOB = random.Random(1).randbytes(MIB)
UNAVAILABLE = "The service is unavailable. Try again in a moment."
ORIGIN = "http://localhost:5173"
ETAG = {"etag": 'W/"1"', "cache-control": "public, max-age=60", "vary": "accept-encoding"}
PROBLEM = '{"type":"about:blank","title":"x","status":404,"detail":"the sibling\'s","code":"ITS_OWN"}'


@pytest.fixture(scope="module")
def account(shared_site: Site) -> Account:
    return registered(shared_site.client)


@pytest.fixture(autouse=True)
def _without_cookies(shared_site: Site) -> None:
    shared_site.client.cookies.clear()


async def pieces() -> AsyncIterator[bytes]:
    for start in range(0, MIB, 100_000):
        yield BLOB[start : start + 100_000]


ANSWERS: dict[str, dict[str, Any]] = {
    "nothing": {"status": 204},
    "created": {"status": 201, "text": "{}", "headers": {"location": "/api/v1/videos/1", "x-own": "\xe9"}},
    "moved": {"status": 307, "headers": {"location": "https://elsewhere.example/"}},
    "not modified": {"status": 304, "headers": ETAG},
    "not found": {"status": 404, "text": '{"detail":"Not Found"}', "content_type": "application/json"},
    "a problem": {"status": 404, "text": PROBLEM, "content_type": "application/problem+json"},
    "an error without a body": {"status": 500},
    "unauthorized": {"status": 401, "text": "log in", "headers": {"www-authenticate": 'Basic realm="x"'}},
    "too large": {"status": 413, "text": "its own limit"},
    "too many": {"status": 429, "text": "its own limit"},
    "unavailable": {"status": 503, "text": "down", "content_type": "application/problem+json"},
    "timed out": {"status": 504, "text": "late"},
    "cancelled": {"status": 499, "text": "left"},
    "unknown": {"status": 599, "text": "?"},
    "of its own policies": {
        "text": "<html>",
        "headers": ETAG | {"content-security-policy": "default-src *", "referrer-policy": "origin"},
    },
    "cookies": {"headers": [("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2"), ("x-content-type-options", "sniff")]},
    "compressed": {"body": gzip.compress(BLOB[:1000]), "headers": {"content-encoding": "gzip"}},
    "like gRPC": {"body": b"\0\0\0\0\0", "headers": {"grpc-status": "1", "grpc-message": "x"}},
    "gRPC's content type": {"body": b"\0\0\0\0\0", "headers": {"content-type": "application/grpc"}},
    "a MiB": {"body": BLOB},
    "in pieces": {"body": pieces},
}
# Headers that name the sibling's software or are the edge's to set, and those that differ from answer to answer.
STRIPPED = {
    "server": "own",
    "x-powered-by": "own",
    "x-problem": '{"planted":1}',
    "x-problem-status": "200",
    "x-from-sibling": "no",
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "access-control-allow-methods": "*",
    "access-control-allow-headers": "*",
    "access-control-expose-headers": "*",
    "access-control-max-age": "1",
    "access-control-allow-private-network": "true",
    "x-request-id": "own",
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_answers_pass_byte_for_byte(site: Site, account: Account, kind: str, method: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        options = dict(ANSWERS[kind])
        if options.get("body") is pieces:
            options["body"] = pieces()
        response = web.Response(**options)
        response.headers.update(STRIPPED)
        return response

    site.sibling.answer = answer
    with httpx.Client(verify=False) as direct:
        expected = exchange(direct, method, f"{site.sibling.url}{VIDEOS}")
    assert exchange(site.client, method, VIDEOS) == expected
    assert exchange(site.client, method, VIDEOS, **account.bearer) == expected


def exchange(client: httpx.Client, method: str, url: str, **headers: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and the bytes of the body, without what the edge strips or sets."""
    with client.stream(method, url, headers=headers) as answer:
        body = b"".join(answer.iter_raw())
    skipped = {*STRIPPED, "date", "connection", "keep-alive", "transfer-encoding"}
    fields = {(name, value) for name, value in answer.headers.multi_items() if name not in skipped}
    # The edge adds this, because its CORS headers depend on the origin.
    varying = {(name, value.removesuffix("origin").removesuffix(",")) for name, value in fields if name == "vary"}
    fields = {field for field in fields if field[0] != "vary"} | varying - {("vary", "")}
    return answer.status_code, sorted(fields), body


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_edge_strips_and_sets(site: Site, method: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(headers=STRIPPED)

    site.sibling.answer = answer
    headers = site.client.request(method, VIDEOS, headers={"x-request-id": "mine"}).headers
    assert not headers.keys() & (STRIPPED.keys() - {"x-request-id"})
    assert headers.get_list("x-request-id") == ["mine"]
    assert not headers.keys() & {
        "cache-control",
        "content-security-policy",
        "referrer-policy",
        "x-content-type-options",
    }
    assert not [name for name in headers if name.startswith("x-envoy")]


def test_streams_pass_as_they_come(site: Site, account: Account) -> None:
    go_on = Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.to_thread(go_on.wait, 30)
        await response.write(b"data: 2\n\n")
        return response

    site.sibling.answer = answer
    with site.client.stream("GET", VIDEOS, headers=account.bearer) as stream:
        parts = stream.iter_raw()
        assert next(parts) == b"data: 1\n\n"
        go_on.set()
        assert list(parts) == [b"data: 2\n\n"]


def test_requests_pass_unchanged(site: Site, account: Account) -> None:
    sent = {
        **account.bearer,
        "content-type": "multipart/form-data; boundary=x",
        "cookie": "a=1; b=2",
        "accept-language": "de",
        "if-none-match": 'W/"1"',
        "user-agent": "mine",
        "x-request-id": "mine",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "content-length": str(MIB),
    }
    assert site.client.post(f"{VIDEOS}?a=b&c=%20", content=BLOB, headers=sent).status_code == 200
    got = site.sibling.last
    assert (got.method, got.target, got.body) == ("POST", f"{VIDEOS}?a=b&c=%20", BLOB)
    assert {name: got.values(name) for name in sent} == {name: [value] for name, value in sent.items()}
    assert site.client.patch(VIDEOS, content=(BLOB[:20_000] for _ in range(3))).status_code == 200
    assert site.sibling.last.body == BLOB[:20_000] * 3


def test_what_is_only_for_the_edge_or_from_it_does_not_reach_siblings(site: Site) -> None:
    given = {
        "x-envoy-retry-on": "5xx",
        "x-envoy-max-retries": "5",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "X-Envoy-Original-Path": "/forged",
        "x-envoy-internal": "true",
        "grpc-timeout": "1S",
        "x-fresh-id": "forged",
        "x-problem-wanted": "true",
        "x-outer-scheme": "https",
        "x-forwarded-proto": "https",
        "x-forwarded-for": "203.0.113.1",
    }
    site.client.get(VIDEOS, headers=given)
    site.client.get(VIDEOS)
    assert len(site.sibling.received) == 2
    for got in site.sibling.received:
        names = {name.lower() for name, _ in got.headers}
        known = {
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
            "x-request-id",
            "x-forwarded-for",
            "x-forwarded-proto",
        }
        assert names == known
        assert got.values("x-forwarded-for") == ["127.0.0.1"]
        assert got.values("x-forwarded-proto") == ["http"]


@pytest.mark.parametrize(("given", "passed"), [("https", "https"), ("http", "http"), ("ftp", "http"), (None, "http")])
def test_siblings_get_the_scheme_of_a_proxy_in_front(site: Site, given: str | None, passed: str) -> None:
    headers = {"x-forwarded-for": "203.0.113.1"} | ({"x-forwarded-proto": given} if given else {})
    settings = replace(site.settings, port=free_port(), trusted_hops=1)
    with (
        envoy(settings),
        httpx.Client(verify=False, base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client,
    ):
        eventually(lambda: is_ready(client))
        assert client.get(VIDEOS, headers=headers).status_code == 200
    assert site.sibling.last.values("x-forwarded-proto") == [passed]
    assert site.sibling.last.values("x-forwarded-for") == ["203.0.113.1"]


def test_callers_cannot_set_retries(site: Site) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    site.sibling.answer = answer
    for method in ("GET", "POST"):
        headers = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "5"}
        assert site.client.request(method, VIDEOS, headers=headers).status_code == 503
    assert len(site.sibling.received) == 2


def test_cors_is_the_edges(site: Site, account: Account) -> None:
    asked = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization"}
    preflight = site.client.options(VIDEOS, headers={"origin": ORIGIN} | asked)
    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert site.sibling.received == []

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(headers={"access-control-allow-origin": "*", "vary": "accept"})

    site.sibling.answer = answer
    for headers in ({}, account.bearer):
        answered = site.client.get(VIDEOS, headers={"origin": ORIGIN} | headers).headers
        assert answered.get_list("access-control-allow-origin") == [ORIGIN]
        assert answered["access-control-allow-credentials"] == "true"
        assert {name.strip() for name in answered["vary"].split(",")} == {"accept", "origin"}
        others = site.client.get(VIDEOS, headers={"origin": "https://evil.example"} | headers).headers
        assert "access-control-allow-origin" not in others


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (["content-length: 1048577"], b""),
        (["transfer-encoding: chunked"], b"11000\r\n" + b"x" * 0x11000 + b"\r\n0\r\n\r\n"),
    ],
)
def test_large_bodies_are_refused(site: Site, account: Account, fields: list[str], body: bytes) -> None:
    for more in ([], [f"authorization: Bearer {account.token}"]):
        status, _, text = raw(site, f"POST {VIDEOS} HTTP/1.1", *fields, *more, body=body)
        detail = "The body is larger than 1 MiB, or than 64 KiB and without a content-length."
        assert (status, json.loads(text)["detail"], json.loads(text)["instance"]) == (413, detail, VIDEOS)
    assert site.sibling.received == []


def test_uploads_pass_as_they_come(site: Site, account: Account) -> None:
    """The edge has no memory for the bodies of all its callers."""
    begun = Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.content.readexactly(MIB // 2)
        begun.set()
        return web.Response(body=str(len(await request.content.read())))

    site.sibling.answer, site.sibling.reads_bodies = answer, False

    def halves() -> Iterator[bytes]:
        yield BLOB[: MIB // 2]
        assert begun.wait(30)
        yield BLOB[MIB // 2 :]

    answered = site.client.post(VIDEOS, content=halves(), headers={**account.bearer, "content-length": str(MIB)})
    assert int(answered.text) == MIB // 2


def test_web_sockets_are_refused(site: Site) -> None:
    headers = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: eA==")
    status, answered, body = raw(site, f"GET {VIDEOS} HTTP/1.1", *headers)
    assert (status, answered["content-type"], json.loads(body)["status"]) == (403, "application/problem+json", 403)
    assert site.sibling.received == []


def test_a_sibling_that_is_down(site: Site, account: Account) -> None:
    assert site.client.get(VIDEOS).status_code == 200
    site.sibling.stop()
    try:
        for headers in ({}, account.bearer):
            for method in ("GET", "POST"):
                answer = site.client.request(method, VIDEOS, headers=headers)
                problem(answer, 503, detail=UNAVAILABLE)
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["cache-control"] == "no-store"
    finally:
        site.sibling.start()
    assert site.client.get(VIDEOS, headers=account.bearer).status_code == 200


def test_a_sibling_that_hangs_up_is_not_called_again(site: Site) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.close()
        return web.Response()

    site.sibling.answer = answer
    problem(site.client.post(VIDEOS), 503, detail=UNAVAILABLE)
    assert len(site.sibling.received) == 1


@pytest.mark.parametrize("error", [StoreUnavailable(), Overloaded(), ValueError("planted")])
def test_without_a_check_no_request_with_a_token_passes(site: Site, account: Account, error: Exception) -> None:
    async def fail() -> None:
        raise error

    before, site.store.on_read = site.store.on_read, fail
    try:
        answer = site.client.get(VIDEOS, headers=account.bearer)
    finally:
        site.store.on_read = before
    problem(answer, 503, detail=UNAVAILABLE)
    assert answer.headers["retry-after"] == "1"
    assert site.sibling.received == []
    assert site.client.get(VIDEOS).status_code == 200
