"""Looking up other people: one, many, and by words."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from killrvideo.user.v1.user_pb2 import User
from killrvideo.user.v1.user_service_pb2 import (
    BatchGetUsersRequest,
    DeleteMeRequest,
    GetMeRequest,
    GetUserRequest,
    SearchUsersRequest,
    UpdateMeRequest,
)

from killrvideo_grpc.config.settings import Settings
from tests.rpc.conftest import Account, Stub
from tests.support.accounts import PASSWORD
from tests.support.calls import registration
from tests.support.errors import Failure, read_failure

Code = grpc.StatusCode


@pytest.fixture
def moderator(account: Account) -> Account:
    account.change("roles", '["moderator"]')
    return account


def refusal(call: Callable[..., object], request: object, account: Account | None = None) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, metadata=account.metadata if account else None)
    return read_failure(caught.value)


def test_a_profile_contains_only_what_everybody_may_know(grpc_stub: Stub, account: Account) -> None:
    me = grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)
    for user_id in (account.user_id, account.user_id.upper()):
        profile = grpc_stub.GetUser(GetUserRequest(user_id=user_id))
        assert MessageToDict(profile) == {
            "userId": account.user_id,
            "firstName": "Ann",
            "lastName": "Lee",
            "createdDate": MessageToDict(me)["createdDate"],
        }
    account.change("account_status", "suspended")
    assert grpc_stub.GetUser(GetUserRequest(user_id=account.user_id)) == profile


def test_unknown_and_deleted_ids_are_not_found(grpc_stub: Stub, account: Account) -> None:
    grpc_stub.DeleteMe(DeleteMeRequest(password=account.password), metadata=account.metadata)
    for user_id in (account.user_id, str(uuid4())):
        failure = refusal(grpc_stub.GetUser, GetUserRequest(user_id=user_id))
        assert (failure.code, failure.reason) == (Code.NOT_FOUND, "USER_NOT_FOUND")
    for user_id in ("", "me", account.user_id[:-1], "{" + account.user_id + "}"):
        failure = refusal(grpc_stub.GetUser, GetUserRequest(user_id=user_id))
        assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["userId"])


def test_many_profiles_come_in_the_order_of_the_request_once(grpc_stub: Stub, account: Account) -> None:
    others = [Account(grpc_stub, account.database) for _ in range(3)]
    grpc_stub.DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=others[2].metadata)
    unknown = [str(uuid4()) for _ in range(2)]
    asked = [
        *(others[1].user_id, unknown[1], account.user_id, others[1].user_id.upper(), others[2].user_id),
        *(unknown[0], others[0].user_id, unknown[1], account.user_id),
    ]
    answer = grpc_stub.BatchGetUsers(BatchGetUsersRequest(user_ids=asked), metadata=account.metadata)
    assert [user.user_id for user in answer.users] == [others[1].user_id, account.user_id, others[0].user_id]
    assert list(answer.missing_user_ids) == [unknown[1], others[2].user_id, unknown[0]]
    assert answer.users[1] == grpc_stub.GetUser(GetUserRequest(user_id=account.user_id))


def test_a_hundred_profiles_at_most(grpc_stub: Stub, account: Account) -> None:
    ids = [str(uuid4()) for _ in range(101)]
    answer = grpc_stub.BatchGetUsers(BatchGetUsersRequest(user_ids=ids[:100]), metadata=account.metadata)
    assert list(answer.missing_user_ids) == ids[:100]
    for wrong, fields in (
        ([], ["userIds"]),
        (ids, ["userIds"]),
        ([*ids[:3], "x", ids[3], ""], ["userIds[3]", "userIds[5]"]),
    ):
        failure = refusal(grpc_stub.BatchGetUsers, BatchGetUsersRequest(user_ids=wrong), account)
        assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "VALIDATION_FAILED")
        assert list(failure.violations) == fields


def register(stub: Stub, email: str, first_name: str = "Ann", last_name: str = "Lee") -> str:
    return stub.Register(registration(email, first_name=first_name, last_name=last_name)).user_id


def walk(stub: Stub, moderator: Account, query: str, page_size: int) -> Iterator[User]:
    token = ""
    while True:
        request = SearchUsersRequest(query=query, page_size=page_size, page_token=token)
        page = stub.SearchUsers(request, metadata=moderator.metadata)
        assert len(page.users) <= (page_size or 20)
        yield from page.users
        if not (token := page.next_page_token):
            return


def test_a_search_finds_by_the_beginnings_of_words(grpc_stub: Stub, moderator: Account) -> None:
    mark = uuid4().hex
    zoe = register(grpc_stub, f"zoe.{mark}@mail.example.org", "Zoë", "Müller")
    zed = register(grpc_stub, f"zed.{mark}@example.org", "Zed", "Miller")

    def found(query: str) -> set[str]:
        return {user.user_id for user in walk(grpc_stub, moderator, query, 0)}

    assert found(mark) == {zoe, zed}
    assert found(f"{mark} ZOE mull") == {zoe}
    assert found(f"{mark} m") == {zoe, zed}
    assert found(f"zed.{mark}@exa") == {zed}
    assert found(f"{mark} uller") == set()
    (user,) = walk(grpc_stub, moderator, f"zoe {mark}", 0)
    assert (user.email, list(user.roles), user.account_status) == (f"zoe.{mark}@mail.example.org", ["viewer"], "active")
    me = grpc_stub.GetMe(GetMeRequest(), metadata=moderator.metadata)
    assert me in list(walk(grpc_stub, moderator, moderator.email, 0))


@pytest.mark.parametrize("page_size", [0, 1, 9, 100])
def test_following_all_pages_returns_everybody_once(grpc_stub: Stub, moderator: Account, page_size: int) -> None:
    mark = uuid4().hex
    ids = {register(grpc_stub, f"{mark}.{number}@example.org") for number in range(25)}
    found = [user.user_id for user in walk(grpc_stub, moderator, mark, page_size)]
    assert (len(found), set(found)) == (25, ids)
    everybody = [user.user_id for user in walk(grpc_stub, moderator, "", page_size or 100)]
    assert len(everybody) == len(set(everybody))
    assert ids <= set(everybody)


def test_results_are_never_stale(grpc_stub: Stub, moderator: Account) -> None:
    account = Account(grpc_stub, moderator.database)
    grpc_stub.UpdateMe(UpdateMeRequest(first_name="Renamed"), metadata=account.metadata)
    assert [user.first_name for user in walk(grpc_stub, moderator, account.email, 0)] == ["Renamed"]
    assert not list(walk(grpc_stub, moderator, f"{account.email} ann", 0))
    grpc_stub.DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=account.metadata)
    assert not list(walk(grpc_stub, moderator, account.email, 0))


def test_only_genuine_page_tokens_of_the_same_query_are_valid(grpc_stub: Stub, moderator: Account) -> None:
    mark = uuid4().hex
    for number in range(3):
        register(grpc_stub, f"{mark}.{number}@example.org")
    token = grpc_stub.SearchUsers(
        SearchUsersRequest(query=mark, page_size=1), metadata=moderator.metadata
    ).next_page_token
    again = SearchUsersRequest(query=f" {mark.upper()} ", page_size=100, page_token=token)
    assert len(grpc_stub.SearchUsers(again, metadata=moderator.metadata).users) == 2
    body, _, signature = token.rpartition(".")
    for query, wrong in (
        (f"{mark}x", token),
        ("", token),
        (mark, token[:-2]),
        (mark, f"{body}.{signature[::-1]}"),
        (mark, moderator.login.token),
        (mark, moderator.login.refresh_token),
        (mark, "1"),
        (mark, "\0"),
        (mark, "x" * 4096),
        (mark, "x" * 4097),
    ):
        request = SearchUsersRequest(query=query, page_token=wrong)
        failure = refusal(grpc_stub.SearchUsers, request, moderator)
        assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["pageToken"])


@pytest.mark.parametrize(
    ("field", "wrong"), [("pageSize", {"page_size": 101}), ("pageSize", {"page_size": -1}), ("q", {"query": "x" * 255})]
)
def test_page_size_and_query_length_are_limited(
    grpc_stub: Stub, moderator: Account, field: str, wrong: dict[str, Any]
) -> None:
    failure = refusal(grpc_stub.SearchUsers, SearchUsersRequest(**wrong), moderator)
    assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, [field])


def test_a_deleted_account_leaves_no_search_terms(grpc_stub: Stub, moderator: Account, settings: Settings) -> None:
    account = Account(grpc_stub, moderator.database)
    with sqlite3.connect(settings.sqlite_path) as connection:
        count = "SELECT count(*) FROM search_terms WHERE userid = ?"
        assert connection.execute(count, (account.user_id,)).fetchone()[0] > 3
        grpc_stub.DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=account.metadata)
        assert connection.execute(count, (account.user_id,)).fetchone()[0] == 0
    connection.close()
