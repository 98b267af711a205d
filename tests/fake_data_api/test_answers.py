"""How the fake Data API answers: refusals, pages, races, and through astrapy."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from astrapy import Database
from astrapy.exceptions import (
    DataAPIResponseException,
)
from astrapy.info import AlterTableAddColumns, CollectionDefinition, TableValuedColumnTypeDescriptor

from tests.fake_data_api.clients import Send, refusal
from tests.fake_data_api.conftest import ANN, BOB, USERS
from tests.fake_data_api.transcripts import KEYSPACE, add_users
from tests.support.fake_data_api import FakeDataApi

REFUSED = [json.loads(line) for line in Path(__file__).with_name("refused.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("eager_switching")
def test_of_64_inserts_of_one_id_at_once_one_is_accepted(api: FakeDataApi, send: Send) -> None:
    start = threading.Barrier(64)

    def insert(number: int) -> tuple[str, str] | None:
        start.wait()
        return refusal(send("credentials", insertOne={"document": {"_id": "a@x.org", "number": number}}))

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(insert, range(64)))
    assert answers.count(None) == 1
    assert answers.count(("REQUEST", "DOCUMENT_ALREADY_EXISTS")) == 63
    assert api.document(KEYSPACE, "credentials", "a@x.org") == {"_id": "a@x.org", "number": answers.index(None)}


@pytest.mark.parametrize(
    "condition",
    [
        {"userid": str(ANN), "email": "a"},
        {"search_terms": {"$in": ["a", "b"]}},
        {"search_terms": {"$all": ["a", "b"]}},
        {"created_date": {"$gt": "2026-01-01T00:00:00Z", "$lt": "2026-02-01T00:00:00Z"}},
        {"$and": [{"email": "a"}, {"search_terms": {"$in": ["a"]}}]},
        {"email": {"$in": ["a"]}},
    ],
)
def test_a_filter_has_one_condition(send: Send, condition: dict[str, Any]) -> None:
    for command in ("find", "findOne"):
        assert refusal(send("users", **{command: {"filter": condition}})) == ("SERVER", "UNSUPPORTED_DATABASE_QUERY")


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: str(json.dumps(line["command"])[:70]))
def test_unknown_requests_are_refused(api: FakeDataApi, send: Send, line: dict[str, Any]) -> None:
    refused = refusal(send(line["path"], **line["command"]))
    assert refused is not None
    assert refused[0] == "REQUEST"
    assert api.rows(KEYSPACE, "users") == []
    assert api.documents(KEYSPACE, "credentials") == []


def test_a_page_state_belongs_to_its_query(api: FakeDataApi, send: Send) -> None:
    add_users(api, 60)
    first = send("users", find={"filter": {"search_terms": {"$in": ["page"]}}})["data"]
    assert len(first["documents"]) == 50
    other = {"filter": {"search_terms": {"$in": ["other"]}}, "options": {"pageState": first["nextPageState"]}}
    assert refusal(send("users", find=other)) == ("SERVER", "UNEXPECTED_DRIVER_ERROR")


def test_rows_are_written_read_and_deleted_through_astrapy(database: Database) -> None:
    admin = database.get_database_admin()
    admin.create_keyspace(KEYSPACE)
    users = database.create_table("users", definition=USERS, if_not_exists=True)
    users.alter(AlterTableAddColumns({"tags": TableValuedColumnTypeDescriptor(column_type="set", value_type="text")}))
    users.create_index("users_search_terms", "search_terms", if_not_exists=True)
    assert users.list_index_names() == ["users_search_terms"]
    assert users.list_indexes()[0].definition.column == "search_terms"
    assert list(users.definition().columns) == ["userid", "created_date", "email", "roles", "search_terms", "tags"]
    created = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    users.insert_one({"userid": ANN, "email": "a", "created_date": created, "search_terms": {"ann", "an"}})
    users.insert_one({"userid": ANN, "roles": {"creator"}})
    (row,) = users.find({"search_terms": {"$in": ["ann"]}}).to_list()
    assert (row["userid"], row["email"], set(row["roles"])) == (ANN, "a", {"creator"})
    assert row["created_date"].to_datetime(tz=UTC) == created
    assert row["tags"] == set()
    users.delete_one({"userid": ANN})
    assert users.find_one({"userid": ANN}) is None
    assert database.list_table_names() == ["users"]


def test_documents_through_astrapy(database: Database) -> None:
    deny_all = CollectionDefinition(indexing={"deny": ["*"]})
    credentials = database.create_collection("credentials", definition=deny_all)
    assert [(found.name, found.definition.indexing) for found in database.list_collections()] == [
        ("credentials", {"deny": ["*"]})
    ]
    credentials.insert_one({"_id": "a@x.org", "userid": ANN})
    with pytest.raises(DataAPIResponseException) as taken:
        credentials.insert_one({"_id": "a@x.org", "userid": BOB})
    assert taken.value.error_descriptors[0].attributes == {"documentIds": ["a@x.org"]}
    credentials.update_one({"_id": "a@x.org"}, {"$inc": {"version": 1}, "$addToSet": {"list": "x"}})
    assert credentials.update_one({"_id": "b"}, {"$set": {"x": 1}}, upsert=True).update_info["upserted"] == "b"
    before = credentials.find_one_and_update({"_id": "a@x.org"}, {"$push": {"list": "x"}})
    assert before == {"_id": "a@x.org", "userid": ANN, "version": 1, "list": ["x"]}
    assert {found["_id"] for found in credentials.find({}).to_list()} == {"a@x.org", "b"}
    assert credentials.delete_one({"_id": "b"}).deleted_count == 1
    assert database.list_collection_names() == ["credentials"]


def test_a_table_that_cql_made_is_listed(api: FakeDataApi, database: Database) -> None:
    support = {"createTable": False, "insert": False, "read": False, "filter": False, "cqlDefinition": "counter"}
    counter = {"type": "UNSUPPORTED", "apiSupport": support}
    key = {"partitionBy": ["email"], "partitionSort": {}}
    api.put_table(
        KEYSPACE, "login_attempts", {"columns": {"email": {"type": "text"}, "failed": counter}, "primaryKey": key}
    )
    assert set(database.list_table_names()) == {"users", "login_attempts"}
    assert len(database.list_tables()) == 2


def test_keys_are_uuids_or_text(api: FakeDataApi, send: Send) -> None:
    api.put_row(
        KEYSPACE, "users", {"userid": str(ANN), "roles": ["b", "a"], "created_date": "2026-01-01T01:00:00+01:00"}
    )
    expected = {"userid": str(ANN), "roles": ["a", "b"], "created_date": "2026-01-01T00:00:00Z"}
    assert api.row(KEYSPACE, "users", UUID(str(ANN))) == api.row(KEYSPACE, "users", str(ANN)) == expected
    api.execute([KEYSPACE, "users"], {"deleteOne": {"filter": {"userid": str(ANN)}}})
    assert api.rows(KEYSPACE, "users") == []
