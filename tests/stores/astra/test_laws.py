"""The nine laws of the data model on Astra (docs/astra.md), each where it can be broken."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded, EmailAlreadyRegistered, StoreUnavailable
from killrvideo_grpc.domain.user import AccountStatus, Role, normal_email, now
from killrvideo_grpc.stores.astra import AstraStore
from killrvideo_grpc.stores.data_api import CREDENTIALS, USERS, Connection, DataApi
from tests.support import data_api
from tests.support.accounts import a_user
from tests.support.data_api import Close, ErrorAnswer, Garbage, HttpStatus, Truncate
from tests.support.keyspaces import KEYSPACE

HASH = "$2b$04$planted.planted.planted.uGk5g4yLZu1bYF6bTzmmWYYOmZOuQxEW"


def row(server: data_api.DataApi, user_id: UUID) -> dict[str, Any] | None:
    return server.row(KEYSPACE, USERS, str(user_id))


def test_registering_is_one_document_and_one_row(server: data_api.DataApi, store: AstraStore) -> None:
    user = a_user("Law.Two@Example.org")
    store.register(user, HASH)
    assert [(request.name, request.command) for request in server.requests] == [
        (CREDENTIALS, "insertOne"),
        (USERS, "insertOne"),
    ]
    document = server.document(KEYSPACE, CREDENTIALS, "law.two@example.org")
    assert document
    assert (document["userid"], document["email"], document["hashed_password"]) == (
        str(user.user_id),
        "Law.Two@Example.org",
        HASH,
    )


LOST = [
    *(Close(), Close(reset=True), Garbage(), Truncate()),
    *(HttpStatus(500), HttpStatus(503), ErrorAnswer("UNEXPECTED_DRIVER_ERROR")),
]


@pytest.mark.parametrize("fault", LOST, ids=repr)
@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", [CREDENTIALS, USERS])
def test_one_lost_answer_loses_no_registration(
    server: data_api.DataApi, store: AstraStore, fault: Any, after_write: bool, name: str
) -> None:
    user = a_user()
    server.fail(fault, command="insertOne", name=name, after_write=after_write, times=1)
    store.register(user, HASH)
    assert store.get(user.user_id) == user
    with pytest.raises(EmailAlreadyRegistered):
        store.register(a_user(user.email), HASH)


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
def test_a_lost_answer_is_no_claim_on_an_address_of_another(
    server: data_api.DataApi, store: AstraStore, after_write: bool
) -> None:
    owner = a_user()
    store.register(owner, HASH)
    other = a_user(owner.email)
    server.fail(Close(), command="insertOne", name=CREDENTIALS, after_write=after_write, times=1)
    with pytest.raises(EmailAlreadyRegistered):
        store.register(other, HASH)
    assert store.get(other.user_id) is None
    document = server.document(KEYSPACE, CREDENTIALS, normal_email(owner.email))
    assert document
    assert document["userid"] == str(owner.user_id)


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
def test_a_claim_that_can_not_be_made_is_no_account_or_one_that_works(
    server: data_api.DataApi, store: AstraStore, after_write: bool
) -> None:
    user = a_user()
    with server.fail(Close(), name=CREDENTIALS, after_write=after_write), pytest.raises(StoreUnavailable):
        store.register(user, HASH)
    credentials = store.find_credentials(user.email)
    assert (credentials is not None) == after_write
    if credentials:
        assert store.get_registered(credentials) == user
        assert store.get(user.user_id) == user


def test_a_row_that_can_not_be_written_is_repaired_at_login(server: data_api.DataApi, store: AstraStore) -> None:
    user = a_user()
    with server.fail(HttpStatus(500), command="insertOne", name=USERS):
        store.register(user, HASH)
    assert store.get(user.user_id) is None
    credentials = store.find_credentials(user.email)
    assert credentials
    assert store.get_registered(credentials) == user
    assert store.get(user.user_id) == user


def test_repair_keeps_what_a_ghost_says(server: data_api.DataApi, store: AstraStore) -> None:
    user = a_user()
    with server.fail(Close(), command="insertOne", name=USERS):
        store.register(user, HASH)
    store.add_role(user.user_id, Role.MODERATOR)  # as a moderator's call might that came in between
    server.put_row(KEYSPACE, USERS, {"userid": str(user.user_id), "account_status": "suspended"})
    assert store.get(user.user_id) is None
    credentials = store.find_credentials(user.email)
    assert credentials
    repaired = store.get_registered(credentials)
    assert repaired
    assert repaired.roles == {Role.MODERATOR}
    assert repaired.status is AccountStatus.SUSPENDED
    assert store.get(user.user_id) == repaired


def test_repair_of_all(server: data_api.DataApi, store: AstraStore) -> None:
    lost = [a_user() for _ in range(3)]
    with server.fail(Close(), command="insertOne", name=USERS):
        for user in lost:
            store.register(user, HASH)
    store.register(whole := a_user(), HASH)
    assert store.repair_all() >= len(lost)
    assert [store.get(user.user_id) for user in [*lost, whole]] == [*lost, whole]
    assert store.repair_all() == 0


def test_a_row_without_an_address_is_no_account(server: data_api.DataApi, store: AstraStore) -> None:
    ghost = uuid4()
    store.record_login(ghost, now())
    assert row(server, ghost)
    assert store.get(ghost) is None


def test_conflicts_are_tried_again(server: data_api.DataApi, store: AstraStore) -> None:
    user = a_user()
    server.fail(ErrorAnswer("FAILED_CONCURRENT_OPERATIONS"), times=5)
    store.register(user, HASH)
    assert store.get(user.user_id) == user


def test_conflicts_without_end_end_with_the_call(server: data_api.DataApi, store: AstraStore) -> None:
    server.fail(ErrorAnswer("FAILED_CONCURRENT_OPERATIONS"))
    with deadline.within(0.3), pytest.raises(DeadlineExceeded):
        store.register(a_user(), HASH)


def test_names_are_set_and_roles_pushed(server: data_api.DataApi, store: AstraStore) -> None:
    user = a_user()
    store.register(user, HASH)
    server.forget_requests()
    store.rename(user, "Bea", None)
    store.add_role(user.user_id, Role.CREATOR)
    store.remove_role(user.user_id, Role.VIEWER)
    updates = [request.body["updateOne"]["update"] for request in server.requests]
    assert updates == [
        {"$set": {"firstname": "Bea"}},
        {"$push": {"roles": "creator"}},
        {"$pullAll": {"roles": ["viewer"]}},
    ]


def test_one_of_64_claims_wins(server: data_api.DataApi, prepared: tuple[data_api.DataApi, Connection]) -> None:
    stores = [AstraStore(DataApi(prepared[1])) for _ in range(2)]
    start = Barrier(64)

    def claim(number: int) -> bool:
        start.wait(20)
        try:
            stores[number % 2].register(a_user("raced@example.org"), HASH)
        except EmailAlreadyRegistered:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        won = list(pool.map(claim, range(64)))
    for store in stores:
        store.close()
    assert won.count(True) == 1
    assert len([found for found in server.rows(KEYSPACE, USERS) if found.get("email") == "raced@example.org"]) == 1
