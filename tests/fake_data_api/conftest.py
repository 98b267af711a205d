"""The fake Data API, and ways to talk to it."""

import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest
from astrapy import Database

from tests.fake_data_api.clients import Send, astrapy_database, sending
from tests.fake_data_api.transcripts import KEYSPACE
from tests.support.fake_data_api import FakeDataApi

USERS = {
    "columns": {
        "userid": "uuid",
        "email": "text",
        "created_date": "timestamp",
        "roles": {"type": "set", "valueType": "text"},
        "search_terms": {"type": "set", "valueType": "text"},
    },
    "primaryKey": "userid",
}
ANN, BOB = uuid4(), uuid4()


@pytest.fixture
def api() -> Iterator[FakeDataApi]:
    with FakeDataApi() as api:
        yield api


@pytest.fixture
def send(api: FakeDataApi) -> Iterator[Send]:
    """Send commands to a keyspace with a table of users and a collection of credentials."""
    with sending(api, KEYSPACE) as send:
        api.put_keyspace(KEYSPACE)
        send("", createTable={"name": "users", "definition": USERS})
        send("", createCollection={"name": "credentials", "options": {"indexing": {"deny": ["*"]}}})
        api.forget_requests()
        yield send


@pytest.fixture
def database(api: FakeDataApi, send: Send) -> Iterator[Database]:
    with astrapy_database(api, KEYSPACE) as database:
        yield database


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Threads take turns after microseconds, so that what no lock guards goes wrong."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)
