"""Clients of the fake: plain HTTP, and astrapy."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import httpx
import pytest
from astrapy import DataAPIClient, Database
from astrapy.authentication import UsernamePasswordTokenProvider

from tests.support.fake_data_api import FakeDataApi


class Send(Protocol):
    """Sends a command, as its keyword argument, to a path below the keyspace, and gives the answer out of JSON."""

    def __call__(self, path: str, **command: Any) -> dict[str, Any]: ...


def token(username: str, password: str) -> str:
    """What astrapy sends in the header `Token`."""
    made = UsernamePasswordTokenProvider(username, password).get_token()
    assert made
    return made


@contextmanager
def sending(api: FakeDataApi, keyspace: str) -> Iterator[Send]:
    # No bound on idle connections: keeping to one, httpcore may close a connection that another thread just took.
    unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers = {"Token": token(api.username, api.password)}
    with httpx.Client(base_url=api.url, headers=headers, limits=unbounded, verify=False) as client:

        def send(path: str, **command: Any) -> dict[str, Any]:
            answer: dict[str, Any] = client.post(f"/v1/{keyspace}/{path}".rstrip("/"), json=command).json()
            return answer

        yield send


@contextmanager
def astrapy_database(api: FakeDataApi, keyspace: str) -> Iterator[Database]:
    """A Database whose HTTP clients are closed in the end: astrapy makes one for each object, and closes none."""
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:

        class Client(httpx.Client):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                opened.callback(self.close)

        patch.setattr(httpx, "Client", Client)
        provider = UsernamePasswordTokenProvider(api.username, api.password)
        yield DataAPIClient(environment="cassandra").get_database(api.url, token=provider, keyspace=keyspace)


def refusal(answer: dict[str, Any]) -> tuple[str, str] | None:
    """Family and code of the error in an answer, or None."""
    return next(((error["family"], error["errorCode"]) for error in answer.get("errors", [])), None)
