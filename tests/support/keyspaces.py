"""Keyspaces of a fake Data API, and of a real one if the environment names it."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from killrvideo_grpc.stores.astra import schema as astra_schema
from killrvideo_grpc.stores.data_api.client import DataApi, Keyspace
from tests.support import fake_data_api

KEYSPACE = "killrvideo"
USERNAME, PASSWORD = "planted-user", "planted-cassandra"
REAL_URL = os.environ.get("TEST_DATA_API_URL")


def keyspace_at(url: str, name: str = KEYSPACE, username: str = USERNAME, password: str = PASSWORD) -> Keyspace:
    """Return a keyspace of a self-hosted Data API on Apache Cassandra."""
    return Keyspace(url, name, "cassandra", username=username, password=password)


@contextmanager
def prepared_fake() -> Iterator[tuple[fake_data_api.FakeDataApi, Keyspace]]:
    """Start a fake whose keyspace has the schema."""
    with fake_data_api.FakeDataApi(username=USERNAME, password=PASSWORD) as server:
        keyspace = keyspace_at(server.url)
        prepare(keyspace)
        server.forget_requests()
        yield server, keyspace


@contextmanager
def real_keyspace() -> Iterator[Keyspace]:
    """Create a keyspace on the real Data API, and drop it in the end."""
    username, password = os.environ["TEST_DATA_API_USERNAME"], os.environ["TEST_DATA_API_PASSWORD"]
    keyspace = keyspace_at(str(REAL_URL), f"killrvideo_test_{uuid4().hex[:12]}", username, password)
    try:
        prepare(keyspace)
        yield keyspace
    finally:
        keyspace.open().get_database_admin().drop_keyspace(keyspace.name)


def prepare(keyspace: Keyspace) -> None:
    """Create the keyspace and its schema."""
    asyncio.run(_prepare(keyspace))


async def _prepare(keyspace: Keyspace) -> None:
    api = DataApi(keyspace)
    try:
        async for _ in astra_schema.create(api, keyspace=True):
            pass
    finally:
        await api.close()
