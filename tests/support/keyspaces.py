"""Keyspaces to test on: of a stand-in for the Data API, and of a real one where the environment names it."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from killrvideo_grpc.stores import astra_schema
from killrvideo_grpc.stores.data_api import Connection, DataApi
from tests.support import data_api

KEYSPACE = "killrvideo"
USERNAME, PASSWORD = "planted-user", "planted-cassandra"
REAL_URL = os.environ.get("TEST_DATA_API_URL")


def connection_to(url: str, keyspace: str = KEYSPACE, username: str = USERNAME, password: str = PASSWORD) -> Connection:
    """Returns how to reach a self-hosted Data API on Apache Cassandra."""
    return Connection(url, keyspace, "cassandra", username=username, password=password)


@contextmanager
def prepared_stand_in() -> Iterator[tuple[data_api.StandIn, Connection]]:
    """Starts a stand-in whose keyspace has all that the service needs."""
    with data_api.StandIn(username=USERNAME, password=PASSWORD) as server:
        connection = connection_to(server.url)
        prepare(connection)
        server.forget_requests()
        yield server, connection


@contextmanager
def real_keyspace() -> Iterator[Connection]:
    """Makes a keyspace of its own on the real Data API, and drops it in the end."""
    username, password = os.environ["TEST_DATA_API_USERNAME"], os.environ["TEST_DATA_API_PASSWORD"]
    connection = connection_to(str(REAL_URL), f"killrvideo_test_{uuid4().hex[:12]}", username, password)
    try:
        prepare(connection)
        yield connection
    finally:
        connection.open().get_database_admin().drop_keyspace(connection.keyspace)


def prepare(connection: Connection) -> None:
    """Makes the keyspace and all that the service needs in it."""
    asyncio.run(_prepare(connection))


async def _prepare(connection: Connection) -> None:
    api = DataApi(connection)
    try:
        async for _ in astra_schema.create(api, keyspace=True):
            pass
    finally:
        await api.close()
