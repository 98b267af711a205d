"""Envoy's jwt_authn filter, in another Envoy, with the keys from our edge."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

import httpx
import pytest

from tests.rest.conftest import Account, Edge
from tests.rest.forged_tokens import forged, kinds
from tests.rest.test_verifiers import AUDIENCE, ISSUER, JWKS, fetched
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import BIN


def guard_config(port: int, edge: Edge) -> str:
    """Return the configuration of an Envoy that answers requests with our tokens."""
    place = urlsplit(edge.url)
    types = "type.googleapis.com/envoy.extensions.filters"
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "remote_jwks": {"http_uri": {"uri": f"{edge.url}{JWKS}", "cluster": "users", "timeout": "5s"}},
        "claim_to_headers": [{"header_name": "x-subject", "claim_name": "sub"}],
    }
    authn = {
        "@type": f"{types}.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"users": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "users"}}],
    }
    answer = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "response_headers_to_add": [{"header": {"key": "x-subject", "value": "%REQ(x-subject)%"}}],
    }
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "guard",
        "http_filters": [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": authn},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.http.router.v3.Router"},
            },
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]

    def address(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    endpoint = {"endpoint": {"address": address(int(place.port or 0))}}
    cluster = {
        "name": "users",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "users", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "guard", "address": address(port), "filter_chains": [{"filters": filters}]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


@contextmanager
def guarded(edge: Edge) -> Iterator[str]:
    """Start such an Envoy, and yield its URL."""
    port = free_port()
    with NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(guard_config(port, edge))
        file.flush()
        command = [str(BIN / "envoy"), "-c", file.name, "--disable-hot-restart", "--log-level", "error"]
        with subprocess.Popen(command) as process:
            try:
                eventually(lambda: fetched(f"http://127.0.0.1:{port}"))
                yield f"http://127.0.0.1:{port}"
            finally:
                process.kill()


@pytest.fixture(scope="module")
def guard(edge: Edge) -> Iterator[str]:
    with guarded(edge) as url:
        yield url


def test_jwt_authn(guard: str, account: Account) -> None:
    answer = httpx.get(guard, headers=account.bearer)
    assert (answer.status_code, answer.headers["x-subject"]) == (200, account.user_id)
    assert httpx.get(guard).status_code == 401


@kinds
def test_jwt_authn_refuses(guard: str, account: Account, kind: str) -> None:
    answer = httpx.get(guard, headers={"authorization": f"Bearer {forged(kind, account.token)}"})
    assert answer.status_code == 401
