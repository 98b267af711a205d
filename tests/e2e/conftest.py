"""Keyspaces for the end-to-end tests: on a fake and, if one is configured, on a real Data API."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from killrvideo_grpc.stores.data_api.client import Keyspace
from tests.support.keyspaces import REAL_URL, prepared_fake, real_keyspace

KEYSPACES: dict[str, Callable[[], AbstractContextManager[Keyspace]]] = {}


@contextmanager
def fake() -> Iterator[Keyspace]:
    with prepared_fake() as (_, keyspace):
        yield keyspace


KEYSPACES["fake"] = fake
if REAL_URL:
    KEYSPACES["data-api"] = real_keyspace


# All tests share one, because a real Data API takes seconds to create a keyspace. Each test uses its own accounts.
@pytest.fixture(scope="session", params=list(KEYSPACES))
def keyspace(request: pytest.FixtureRequest) -> Iterator[Keyspace]:
    with KEYSPACES[request.param]() as keyspace:
        yield keyspace
