"""`schema check` and `schema create` on various keyspaces."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from killrvideo_grpc.domain.errors import StoreUnavailable, UnusableStore
from killrvideo_grpc.stores.astra import schema as astra_schema
from killrvideo_grpc.stores.data_api.client import ACCOUNTS, USERS, DataApi
from tests.support import fake_data_api
from tests.support.fake_data_api import ErrorAnswer, Hang, HttpStatus
from tests.support.keyspaces import KEYSPACE, PASSWORD, USERNAME, keyspace_at

pytestmark = pytest.mark.anyio

KILLRVIDEO_USERS: dict[str, Any] = {
    "columns": {
        "userid": {"type": "uuid"},
        **{name: {"type": "text"} for name in ("email", "firstname", "lastname", "account_status")},
        **{name: {"type": "timestamp"} for name in ("created_date", "last_login_date")},
    },
    "primaryKey": {"partitionBy": ["userid"], "partitionSort": {}},
}


@pytest.fixture
def server() -> Iterator[fake_data_api.FakeDataApi]:
    with fake_data_api.FakeDataApi(username=USERNAME, password=PASSWORD) as server:
        yield server


@pytest.fixture
async def api(server: fake_data_api.FakeDataApi) -> AsyncIterator[DataApi]:
    api = DataApi(keyspace_at(server.url))
    yield api
    await api.close()


async def create(api: DataApi, *, keyspace: bool = False) -> list[str]:
    return [done async for done in astra_schema.create(api, keyspace=keyspace)]


async def test_everything_is_created_once(server: fake_data_api.FakeDataApi, api: DataApi) -> None:
    with pytest.raises(UnusableStore, match=r"no keyspace killrvideo.*--keyspace"):
        await astra_schema.check(api)
    assert await create(api, keyspace=True) == [
        "keyspace killrvideo exists",
        "created table users",
        "created index users_search_terms on users.search_terms",
        "created table account_events",
        "created table events_by_day",
        "created collection accounts",
    ]
    assert await astra_schema.check(api) == []
    server.forget_requests()
    assert await create(api) == []
    assert {request.command for request in server.requests} == {"listTables", "listIndexes", "findCollections"}


async def test_apache_cassandra_is_asked_for_no_lexical_index(server: fake_data_api.FakeDataApi, api: DataApi) -> None:
    await create(api, keyspace=True)
    (creation,) = (request for request in server.requests if request.command == "createCollection")
    assert creation.arguments["options"] == {
        "indexing": {"allow": ["revision", "pending"]},
        "lexical": {"enabled": False},
    }


async def test_the_table_of_killrvideo_gets_columns_and_keeps_its_own(
    server: fake_data_api.FakeDataApi, api: DataApi
) -> None:
    server.put_keyspace(KEYSPACE)
    columns = {**KILLRVIDEO_USERS["columns"], "nickname": {"type": "text"}}
    server.put_table(KEYSPACE, USERS, {**KILLRVIDEO_USERS, "columns": columns})
    found = await astra_schema.check(api)
    assert found[0].text == "columns search_terms of table users"
    await create(api)
    assert await astra_schema.check(api) == []
    changes = [request for request in server.requests if request.name == USERS and request.command != "listIndexes"]
    assert [request.command for request in changes] == ["alterTable", "createIndex"]


@pytest.mark.parametrize(
    ("table", "difference"),
    [
        ({"columns": {"email": {"type": "int"}}}, "column email of table users is int and must be text"),
        (
            {"primaryKey": {"partitionBy": ["email"], "partitionSort": {}}},
            "the primary key of table users must be userid",
        ),
    ],
)
async def test_differences_are_reported_and_refused(
    server: fake_data_api.FakeDataApi, api: DataApi, table: dict[str, Any], difference: str
) -> None:
    await create(api, keyspace=True)
    columns = {**astra_schema.USER_COLUMNS, **table.get("columns", {})}
    server.put_table(KEYSPACE, USERS, {**KILLRVIDEO_USERS, **table, "columns": columns})
    assert difference in [found.text for found in await astra_schema.check(api)]
    with pytest.raises(UnusableStore):
        await create(api)


async def test_a_collection_with_other_indexing_is_refused(api: DataApi) -> None:
    await api.create_keyspace(5)
    await api.database.create_collection(ACCOUNTS, definition={"indexing": {"deny": ["*"]}})
    with pytest.raises(UnusableStore, match="collection accounts must have the indexing"):
        await create(api)


async def test_a_sixth_collection_is_refused_with_what_to_do(api: DataApi) -> None:
    await api.create_keyspace(5)
    for number in range(5):
        await api.database.create_collection(f"c{number}", definition={"indexing": {"deny": ["*"]}})
    with pytest.raises(UnusableStore, match="five collections in all keyspaces"):
        await create(api)


@pytest.mark.parametrize("status", [401, 403])
async def test_wrong_credentials_are_reported_as_such(
    server: fake_data_api.FakeDataApi, api: DataApi, status: int
) -> None:
    with server.fail(HttpStatus(status)):
        for call in (astra_schema.check(api), create(api, keyspace=True)):
            with pytest.raises(UnusableStore, match="rejects the credentials"):
                await call


async def test_no_answer_is_unavailable_rather_than_unusable(server: fake_data_api.FakeDataApi, api: DataApi) -> None:
    api.max_wait = 0.1
    for fault in (Hang(), HttpStatus(503), ErrorAnswer("FAILED_TO_CONNECT_TO_DATABASE")):
        with server.fail(fault), pytest.raises(StoreUnavailable):
            await astra_schema.check(api)
