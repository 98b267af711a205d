"""What the account document relies on: paths, update operators, projections, filters, and atomic changes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fake_data_api.clients import Send, refusal
from tests.fake_data_api.transcripts import KEYSPACE
from tests.support.fake_data_api import FakeDataApi, Hang

Document = dict[str, Any]
ACCOUNT: Document = {"name": "Ann", "n": 5, "at": {"$date": 5}, "hashes": {"c1": {"a": 1, "b": 2}}, "log": ["x", "y"]}


@pytest.fixture(autouse=True)
def accounts(send: Send) -> None:
    send("", createCollection={"name": "accounts", "options": {"indexing": {"allow": ["pending"]}}})


@pytest.fixture
def account(send: Send) -> Document:
    document = {"_id": "ann", **ACCOUNT}
    send("accounts", insertOne={"document": document})
    return document


def updated(send: Send, update: Document, **options: Any) -> dict[str, Any]:
    options = {"returnDocument": "after", **options}
    return send("accounts", findOneAndUpdate={"filter": {"_id": "ann"}, "update": update, "options": options})


@pytest.mark.parametrize(
    ("update", "changed"),
    [
        ({"$set": {"hashes.c2": 1}}, {"hashes": {"c1": {"a": 1, "b": 2}, "c2": 1}}),
        ({"$set": {"hashes": {"c2": 1}}}, {"hashes": {"c2": 1}}),
        ({"$set": {"new.map.a&.b&&": 1}}, {"new": {"map": {"a.b&": 1}}}),
        ({"$unset": {"hashes.c1.a": ""}}, {"hashes": {"c1": {"b": 2}}}),
        ({"$unset": {"no.such": "", "hashes.c9.a": ""}}, {}),
        ({"$setOnInsert": {"n": 1}}, {}),
        ({"$inc": {"n": -2, "new": 1}}, {"n": 3, "new": 1}),
        ({"$max": {"n": 4, "at": {"$date": 6}, "new": 1}}, {"at": {"$date": 6}, "new": 1}),
        ({"$min": {"n": 4, "at": {"$date": 6}, "new": 1}}, {"n": 4, "new": 1}),
        ({"$push": {"log": "z", "new": {"k": 1}}}, {"log": ["x", "y", "z"], "new": [{"k": 1}]}),
        ({"$push": {"log": {"$each": ["z", "x"]}}}, {"log": ["x", "y", "z", "x"]}),
        ({"$addToSet": {"log": {"$each": ["x", "z"]}}}, {"log": ["x", "y", "z"]}),
        ({"$set": {"name": "Bea"}, "$unset": {"at": ""}, "$inc": {"hashes.c1.a": 1}}, None),
    ],
)
def test_update_operators(send: Send, account: Document, update: Document, changed: Document | None) -> None:
    expected = account | (changed or {})
    if changed is None:
        expected |= {"name": "Bea", "hashes": {"c1": {"a": 2, "b": 2}}}
        del expected["at"]
    answer = updated(send, update)
    assert answer["data"]["document"] == expected
    assert answer["status"] == {"matchedCount": 1, "modifiedCount": int(expected != account)}


@pytest.mark.parametrize(
    "update",
    [
        {"$pull": {"log": "x"}},
        {"$inc": {"name": 1}},
        {"$inc": {"n": "1"}},
        {"$max": {"name": 1}},
        {"$push": {"name": "x"}},
        {"$push": {"log": {"$each": ["z"], "$position": 0}}},
        {"$set": {"name.first": "Ann"}},
        {"$set": {"hashes": {}}, "$unset": {"hashes.c1": ""}},
        {"$set": {"": 1}},
        {"$set": {"a..b": 1}},
        {"$set": {"a&b": 1}},
        {"$set": {"_id": "bea"}},
        {"$set": {"n": 6}, "$rename": {"name": "names"}},
        {"$set": ["n"]},
        {},
    ],
    ids=str,
)
def test_an_update_that_is_refused_changes_nothing(
    api: FakeDataApi, send: Send, account: Document, update: Any
) -> None:
    refused = refusal(updated(send, update))
    assert refused
    assert refused[0] == "REQUEST"
    assert api.documents(KEYSPACE, "accounts") == [account]


@pytest.mark.parametrize(
    ("projection", "shown"),
    [
        ({"name": True}, {"_id": "ann", "name": "Ann"}),
        ({"name": True, "_id": False}, {"name": "Ann"}),
        ({"hashes.c1.a": True, "log": True}, {"_id": "ann", "hashes": {"c1": {"a": 1}}, "log": ["x", "y"]}),
        ({"hashes.c1.a": False}, {"_id": "ann", **ACCOUNT, "hashes": {"c1": {"b": 2}}}),
        ({"hashes": False, "_id": False}, {name: value for name, value in ACCOUNT.items() if name != "hashes"}),
        ({"_id": True}, {"_id": "ann", **ACCOUNT}),
        ({"_id": False}, ACCOUNT),
    ],
)
@pytest.mark.usefixtures("account")
def test_projections(send: Send, projection: Document, shown: Document) -> None:
    found = send("accounts", findOne={"filter": {"_id": "ann"}, "projection": projection})
    assert found["data"]["document"] == shown


def test_a_missing_document_is_made_by_upsert_only(api: FakeDataApi, send: Send) -> None:
    update = {"$set": {"n": 1}, "$setOnInsert": {"first": True}}
    assert updated(send, update) == {"data": {"document": None}, "status": {"matchedCount": 0, "modifiedCount": 0}}
    assert api.documents(KEYSPACE, "accounts") == []
    made = {"_id": "ann", "n": 1, "first": True}
    assert updated(send, update, upsert=True)["data"]["document"] == made
    assert api.document(KEYSPACE, "accounts", "ann") == made


def test_documents_with_work_to_do_are_found_by_their_index(send: Send) -> None:
    def pending(condition: Any) -> set[str]:
        found = send("accounts", find={"filter": {"pending": condition}})["data"]["documents"]
        return {document["_id"] for document in found}

    for name, fields in (("ann", {"pending": True}), ("bob", {"pending": True}), ("cat", {"pending": 1}), ("dan", {})):
        send("accounts", insertOne={"document": {"_id": name} | fields})
    assert (pending(True), pending({"$exists": True})) == ({"ann", "bob"}, {"ann", "bob", "cat"})
    updated(send, {"$unset": {"pending": ""}})
    assert (pending(True), pending({"$exists": True})) == ({"bob"}, {"bob", "cat"})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"name": "Ann"}, ("REQUEST", "FILTER_PATH_UNINDEXED")),
        ({"_id": "ann", "name": "Ann"}, ("REQUEST", "FILTER_PATH_UNINDEXED")),
        ({"_id": "ann", "pending": True}, ("SERVER", "UNSUPPORTED_DATABASE_QUERY")),
        ({"pending": {"$exists": True, "$eq": True}}, ("SERVER", "UNSUPPORTED_DATABASE_QUERY")),
        ({"$and": [{"_id": "ann"}, {"pending": True}]}, ("SERVER", "UNSUPPORTED_DATABASE_QUERY")),
        ({"pending": {"$ne": True}}, ("REQUEST", "FILTER_UNSUPPORTED_OPERATOR")),
    ],
)
@pytest.mark.usefixtures("account")
def test_filters_that_are_refused(send: Send, condition: Document, expected: tuple[str, str]) -> None:
    assert refusal(send("accounts", find={"filter": condition})) == expected
    assert refusal(send("accounts", findOneAndUpdate={"filter": condition, "update": {"$set": {"n": 1}}})) == expected


def test_100_ids_are_one_page_and_everything_comes_in_pages_of_50(send: Send) -> None:
    ids = [f"account:{number}" for number in range(120)]
    for document_id in ids:
        send("accounts", insertOne={"document": {"_id": document_id}})
    found = send("accounts", find={"filter": {"_id": {"$in": ids[:100]}}})["data"]
    assert (len(found["documents"]), found["nextPageState"]) == (100, None)
    seen: set[str] = set()
    sizes, options = [], dict[str, Any]()
    while True:
        page = send("accounts", find={"filter": {}, "options": options})["data"]
        sizes.append(len(page["documents"]))
        seen |= {document["_id"] for document in page["documents"]}
        if page["nextPageState"] is None:
            break
        options = {"pageState": page["nextPageState"]}
        send("accounts", deleteOne={"filter": {"_id": page["documents"][-1]["_id"]}})
    assert sizes == [50, 50, 20]
    assert seen == set(ids)
    elsewhere = send("credentials", find={"filter": {}, "options": options})
    assert refusal(elsewhere) == ("SERVER", "UNEXPECTED_DRIVER_ERROR")


def test_a_sixth_collection_is_too_many(api: FakeDataApi, send: Send) -> None:
    api.put_keyspace("other")
    created = [
        api.execute([keyspace], {"createCollection": {"name": name}})
        for keyspace, name in ((KEYSPACE, "c"), ("other", "d"), ("other", "e"))
    ]
    assert created == [{"status": {"ok": 1}}] * 3
    assert refusal(send("", createCollection={"name": "f"})) == ("REQUEST", "TOO_MANY_COLLECTIONS")
    assert refusal(send("", createCollection={"name": "c"})) is None


def at_once(count: int, action: Callable[[int], Any]) -> list[Any]:
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        return action(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.usefixtures("eager_switching", "account")
def test_of_48_changes_at_once_none_is_lost_and_all_see_one_order(api: FakeDataApi, send: Send) -> None:
    answers = at_once(48, lambda number: updated(send, {"$push": {"log": number}, "$inc": {"n": 1}}))
    logs = sorted((answer["data"]["document"]["log"] for answer in answers), key=len)
    final = api.document(KEYSPACE, "accounts", "ann")
    assert final
    assert logs == [final["log"][: length + 3] for length in range(48)]
    assert final["n"] == ACCOUNT["n"] + 48


def test_a_snapshot_is_put_back_beside_what_came_since(api: FakeDataApi, send: Send, account: Document) -> None:
    snapshot = api.snapshot()
    updated(send, {"$set": {"name": "Bea"}})
    api.empty()
    assert api.documents(KEYSPACE, "accounts") == []
    send("accounts", insertOne={"document": {"_id": "bob"}})
    api.restore(snapshot)
    assert api.documents(KEYSPACE, "accounts") == [{"_id": "bob"}, account]


def test_the_fake_is_emptied_once_no_request_is_under_way(api: FakeDataApi, send: Send) -> None:
    with ThreadPoolExecutor(2) as pool:
        hang = api.fail(Hang(), command="insertOne")
        inserting = pool.submit(send, "accounts", insertOne={"document": {"_id": "ann"}})
        api.wait_for(command="insertOne")
        emptying = pool.submit(api.empty)
        with pytest.raises(TimeoutError):
            emptying.result(0.05)
        hang.clear()
        assert inserting.result()["status"] == {"insertedIds": ["ann"]}
        emptying.result()
    assert api.documents(KEYSPACE, "accounts") == []
