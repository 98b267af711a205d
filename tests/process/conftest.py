"""Keyspaces for the end-to-end tests: of a stand-in, and of a real Data API where there is one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from killrvideo_grpc.stores.data_api import Connection
from tests.support.keyspaces import REAL_URL, prepared_stand_in, real_keyspace

KEYSPACES: dict[str, Callable[[], AbstractContextManager[Connection]]] = {}


@contextmanager
def stand_in() -> Iterator[Connection]:
    with prepared_stand_in() as (_, connection):
        yield connection


KEYSPACES["stand-in"] = stand_in
if REAL_URL:
    KEYSPACES["data-api"] = real_keyspace


# One for all tests, because a real Data API takes seconds to make a keyspace. Each test has accounts of its own.
@pytest.fixture(scope="session", params=list(KEYSPACES))
def keyspace(request: pytest.FixtureRequest) -> Iterator[Connection]:
    with KEYSPACES[request.param]() as connection:
        yield connection
