"""KillrVideo's FastAPI services behind the edge of this one: register here, comment there, on one origin."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import jwt
import pytest

from tests.rest.conftest import USERS, Account, problem, registered, web
from tests.rest.forged_tokens import forged, kinds
from tests.support.ports import free_port
from tests.support.tokens import with_secret

COMMENTS = "/api/v1/videos/v1/comments"


@dataclass
class Site:
    """The edge, and a FastAPI service behind it that has its keys."""

    edge: httpx.Client
    comments: httpx.Client
    key_set: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from tests.support.comments_app import comments_app, served  # slow to import

    port = free_port()
    with (
        web(tmp_path_factory.mktemp("site"), TOKEN_AUDIENCE="none", SIBLINGS_URL=f"http://127.0.0.1:{port}") as edge,
        httpx.Client(verify=False, base_url=edge.url, timeout=30) as client,
    ):
        key_set = client.get("/.well-known/jwks.json").text
        with (
            served(comments_app(key_set), port) as url,
            httpx.Client(verify=False, base_url=url, timeout=30) as comments,
        ):
            yield Site(client, comments, key_set)


@pytest.fixture
def account(site: Site) -> Account:
    return registered(site.edge)


def comment(client: httpx.Client, token: str) -> httpx.Response:
    return client.post(COMMENTS, json={"text": "first"}, headers={"authorization": f"Bearer {token}"})


def test_register_here_and_comment_there(site: Site, account: Account) -> None:
    assert site.edge.get(f"{USERS}/me", headers=account.bearer).status_code == 200
    written = {"text": "first", "author": account.user_id}
    answer = comment(site.edge, account.token)
    assert (answer.status_code, answer.json()) == (201, written)
    assert site.edge.get(f"{USERS}/{account.user_id}/comments").json() == [written]


def test_the_edge_knows_what_the_token_does_not(site: Site, account: Account) -> None:
    assert site.edge.post(f"{USERS}/logout", headers=account.bearer).status_code == 200
    problem(comment(site.edge, account.token), 401, "SESSION_ENDED")
    assert comment(site.comments, account.token).status_code == 201  # past the edge, until the token expires


def test_the_service_answers_callers_without_tokens_itself(site: Site) -> None:
    answer = site.edge.post(COMMENTS, json={"text": "first"})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})


@kinds
def test_forged_tokens_are_refused(site: Site, account: Account, kind: str) -> None:
    assert comment(site.comments, forged(kind, account.token)).status_code == 401


def test_hmac_with_the_key_set_is_refused(site: Site, account: Account) -> None:
    body = jwt.decode(account.token, options={"verify_signature": False})
    assert comment(site.comments, with_secret(site.key_set.encode(), body)).status_code == 401
