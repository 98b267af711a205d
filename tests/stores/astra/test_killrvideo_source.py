"""Taking over KillrVideo's tables in the keyspace where they are, with crashes and damage."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from killrvideo_grpc.domain.account import Account, now
from killrvideo_grpc.domain.errors import SetupError, StoreUnavailable
from killrvideo_grpc.migration.importer import Importer
from killrvideo_grpc.migration.killrvideo import plan
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import DataApi
from killrvideo_grpc.stores.data_api.killrvideo_source import KillrVideoSource
from tests.stores.astra.conftest import Prepared
from tests.stores.astra.test_schema import KILLRVIDEO_USERS
from tests.support.accounts import HASH
from tests.support.fake_data_api import Close
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio

KILLRVIDEO_CREDENTIALS: dict[str, Any] = {
    "columns": {
        **{name: {"type": "text"} for name in ("email", "password")},
        "userid": {"type": "uuid"},
        "account_locked": {"type": "boolean"},
    },
    "primaryKey": {"partitionBy": ["email"], "partitionSort": {}},
}


def user_id(number: int) -> str:
    return f"11111111-1111-4111-8111-11111111110{number}"


def a_row(number: int, **columns: str) -> dict[str, str]:
    row = {
        "userid": user_id(number),
        "email": f"person{number}@example.org",
        "firstname": "Ann",
        "lastname": f"Lee{number}",
        "account_status": "active",
        "created_date": "2024-01-01T00:00:00Z",
        "last_login_date": f"2024-02-0{number + 1}T00:00:00Z",
    }
    return row | columns


USERS = [
    a_row(0),
    a_row(1, account_status="moderator"),
    a_row(2, email="twice@example.org"),
    a_row(3, email="TWICE@example.org"),
    a_row(4, account_status="inactive", email="old@example.org"),
    a_row(5, firstname="", last_login_date="2023-01-01T00:00:00Z"),
]
CREDENTIALS: list[dict[str, Any]] = [
    {"email": "person0@example.org", "userid": user_id(0), "password": HASH},
    {"email": "person1@example.org", "userid": user_id(1), "password": "md5", "account_locked": True},
    {"email": "twice@example.org", "userid": user_id(2), "password": HASH},
    {"email": "TWICE@example.org", "userid": user_id(3), "password": HASH},
    {"email": "new@example.org", "userid": user_id(4), "password": HASH},
    {"email": "lost@example.org", "userid": user_id(9), "password": HASH},
    {"email": "nobody@example.org", "password": HASH},
]
EXPECTED = [
    (user_id(0), "person0@example.org", "Lee0", "active", ["viewer"]),
    (user_id(1), "person1@example.org", "Lee1", "suspended", ["moderator", "viewer"]),
    (user_id(2), "", "Lee2", "active", ["viewer"]),
    (user_id(3), "TWICE@example.org", "Lee3", "active", ["viewer"]),
    (user_id(4), "new@example.org", "Lee4", "suspended", ["viewer"]),
    (user_id(5), "", "Lee5", "active", ["viewer"]),
    (user_id(9), "lost@example.org", "Unknown", "active", ["viewer"]),
]


@pytest.fixture
def taken_over(prepared: Prepared) -> Iterator[Prepared]:
    """A fake with KillrVideo's tables, and this service's schema added."""
    server, keyspace = prepared
    server.put_table(KEYSPACE, "user_credentials", KILLRVIDEO_CREDENTIALS)
    for row in USERS:
        server.put_row(KEYSPACE, "users", row)
    for credential in CREDENTIALS:
        server.put_row(KEYSPACE, "user_credentials", credential)
    yield server, replace(keyspace, max_wait=30.0)
    server.clear_faults()
    server.empty()


@pytest.fixture
async def api(taken_over: Prepared) -> AsyncIterator[DataApi]:
    api = DataApi(taken_over[1])
    yield api
    await api.close()


async def imported(api: DataApi) -> list[str]:
    """Import the tables as the command does. Return the lines of the report."""
    store, lines = AstraStore(api), list[str]()
    importer = Importer(store, "cli:ann", dry_run=False, say=lines.append)
    try:
        source = await KillrVideoSource(api).read_tables(lambda _: None)
        made = plan(source, now())
        # One at a time, so that a crash comes between any two.
        await importer.run(made.refused)
        for row in made.accounts:
            await importer.run([row])
    finally:
        await store.finish()
    return lines


async def accounts(api: DataApi) -> list[Account]:
    found = [each.account async for page in AstraStore(api).all_credentials() for each in page]
    return sorted(found, key=lambda account: account.user_id)


def shown(account: Account) -> tuple[str, str, str, str, list[str]]:
    return str(account.user_id), account.email, account.last_name, account.status.value, sorted(account.roles)


async def test_damaged_tables(api: DataApi) -> None:
    lines = await imported(api)
    assert [shown(account) for account in await accounts(api)] == EXPECTED
    (refused,) = [line for line in lines if "refused" in line]
    assert refused.startswith("a row of user_credentials without a user id (nobody@example.org): refused: it names no")
    assert HASH not in "".join(lines)
    repeated = [line for line in lines if ": moderator: " in line or ": profile only: " in line]
    assert sorted(await imported(api)) == sorted([refused, *repeated])


@pytest.mark.parametrize("steps", range(3, 64, 10))
async def test_an_interrupted_import_of_tables_ends_the_same(taken_over: Prepared, api: DataApi, steps: int) -> None:
    server, keyspace = taken_over
    with server.fail(Close(), skip=steps), suppress(StoreUnavailable):
        await imported(api)
    other = DataApi(keyspace)
    await imported(other)
    await AstraStore(other).sweep()
    assert [shown(account) for account in await accounts(other)] == EXPECTED
    rows = {row["userid"]: row for row in server.rows(KEYSPACE, "users")}
    assert [(key, rows[key].get("email", ""), rows[key]["lastname"]) for key in sorted(rows)] == [
        (each[0], each[1], each[2]) for each in EXPECTED
    ]
    await other.close()


async def test_what_is_missing_is_named(taken_over: Prepared) -> None:
    server, keyspace = taken_over
    server.put_keyspace("empty")
    server.put_keyspace("partly")
    columns = {name: column for name, column in KILLRVIDEO_USERS["columns"].items() if name != "email"}
    server.put_table("partly", "users", KILLRVIDEO_USERS | {"columns": columns})
    for name, message in (
        ("nowhere", "There is no keyspace nowhere"),
        ("empty", "Keyspace empty has no table users. Name another with --keyspace"),
        ("partly", "Table users of keyspace partly has no column email"),
    ):
        api = DataApi(replace(keyspace, name=name))
        with pytest.raises(SetupError, match=message):
            await KillrVideoSource(api).read_tables(lambda _: None)
        await api.close()


async def test_pages_are_read_to_the_end_and_again_after_a_failure(taken_over: Prepared, api: DataApi) -> None:
    server, _ = taken_over
    for number in range(120):
        server.put_row(KEYSPACE, "users", a_row(0) | {"userid": str(UUID(int=number))})
    read: list[int] = []
    with server.fail(Close(), command="find", skip=1, times=2):
        source = await KillrVideoSource(api).read_tables(read.append)
    assert len(source.users) == 120 + len(USERS)
    assert sum(read) == len(source.users) + len(source.credentials)


async def test_documents_have_dates_of_any_kind(taken_over: Prepared) -> None:
    server, keyspace = taken_over
    server.put_keyspace("documents")
    server.execute(["documents"], {"createCollection": {"name": "users"}})
    for number, date in enumerate([{"$date": 1714979289123}, "2024-05-06T07:08:09.123456789Z", {"$date": 10**18}]):
        document = {
            "userid": user_id(number),
            "email": f"d{number}@example.org",
            "created_date": date,
            "roles": "viewer",
        }
        server.execute(["documents", "users"], {"insertOne": {"document": document}})
    api = DataApi(replace(keyspace, name="documents"))
    source = await KillrVideoSource(api).read_collections(lambda _: None)
    await api.close()
    at = now()
    made = {each.credentials.account.email: each for each in plan(source, at).accounts}
    dates = [made[f"d{number}@example.org"].credentials.account.created_date for number in range(3)]
    assert [date.isoformat() for date in dates[:2]] == ["2024-05-06T07:08:09.123000+00:00"] * 2
    assert dates[2] == at
