"""Offers to switch to another protocol (RFC 9110, section 7.8): ignored, except WebSocket's."""

import json

import pytest

from tests.rest.conftest import USERS, Account, Edge, raw
from tests.support.accounts import PASSWORD

OFFERS = [
    "TLS/1.2",
    "tls/1.0 , HTTP/2.0",
    "h2c",
    "H2C",
    "h2c, TLS/1.3",
    "TLS/1.3,h2c",
    "HTTP/3.0",
    "web",
    "Webdav/1",
    "x",
]


@pytest.mark.parametrize("offer", OFFERS)
def test_offers_are_ignored(edge: Edge, account: Account, offer: str) -> None:
    headers = ("connection: Upgrade, HTTP2-Settings", f"upgrade: {offer}", "http2-settings: AAMAAABkAAQAAP__")
    bearer = f"authorization: Bearer {account.token}"
    status, answered, text = raw(edge, f"GET {USERS}/me HTTP/1.1", bearer, *headers)
    assert (status, json.loads(text)["email"]) == (200, account.email)
    assert "upgrade" not in answered

    body = json.dumps({"email": account.email, "password": PASSWORD}).encode()
    content = ("content-type: application/json", f"content-length: {len(body)}")
    status, _, text = raw(edge, f"POST {USERS}/login HTTP/1.1", *content, *headers, body=body)
    assert (status, json.loads(text)["user"]["email"]) == (200, account.email)


@pytest.mark.parametrize("demand", ["websocket", "WebSocket", "websocket/13", "TLS/1.2, WebSocket"])
def test_websockets_are_refused(edge: Edge, account: Account, demand: str) -> None:
    headers = ("connection: Upgrade", f"upgrade: {demand}", f"authorization: Bearer {account.token}")
    status, answered, text = raw(edge, f"GET {USERS}/me HTTP/1.1", *headers)
    assert (status, json.loads(text)["status"]) == (403, 403)
    assert answered["content-type"] == "application/problem+json"
