"""A Data API that refuses, hangs, lies or is gone: what each call makes of it, and in what time."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded, StoreUnavailable
from killrvideo_grpc.domain.user import Role
from killrvideo_grpc.stores import astra_schema
from killrvideo_grpc.stores.astra import AstraStore
from killrvideo_grpc.stores.data_api import Connection, DataApi, RequestRefused
from tests.stores.astra.test_laws import HASH, LOST
from tests.support import data_api
from tests.support.accounts import a_user
from tests.support.data_api import Drip, ErrorAnswer, Hang, HttpStatus

REFUSALS = [
    *LOST,
    *(HttpStatus(status) for status in (401, 403, 429, 502, 504)),
    *(ErrorAnswer(code) for code in ("FAILED_TO_CONNECT_TO_DATABASE", "UNEXPECTED_DRIVER_ERROR", "RENAMED_NEXT_YEAR")),
]


@pytest.mark.parametrize("fault", REFUSALS, ids=repr)
def test_trouble_is_unavailable_and_logged_by_code(
    server: data_api.DataApi, store: AstraStore, fault: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    user = a_user("planted@example.org")
    with server.fail(fault):
        for call in (
            lambda: store.get(user.user_id),
            lambda: store.find_credentials(user.email),
            lambda: store.register(user, HASH),
            lambda: store.rename(user, "planted", None),
            store.ping,
        ):
            with pytest.raises(StoreUnavailable):
                call()
    printed = "".join(capsys.readouterr())
    assert "cause" in printed
    assert "planted" not in printed


def test_a_request_that_is_wrong_is_a_bug(
    server: data_api.DataApi, store: AstraStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.fail(ErrorAnswer("FILTER_INVALID_EXPRESSION", family="REQUEST")):
        with pytest.raises(RequestRefused, match="FILTER_INVALID_EXPRESSION"):
            store.find_credentials("planted@example.org")
        with pytest.raises(RequestRefused):
            store.get(uuid4())
    assert "FILTER_INVALID_EXPRESSION" in "".join(capsys.readouterr())


def test_no_data_api_at_all() -> None:
    store = AstraStore(DataApi(Connection("http://127.0.0.1:9", "killrvideo", "cassandra", username="u", password="p")))
    with pytest.raises(StoreUnavailable):
        store.get(uuid4())
    with pytest.raises(StoreUnavailable):
        store.ping()
    store.close()


@pytest.mark.parametrize("fault", [Hang(), Drip(0.1)], ids=["hanging", "dripping"])
@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_a_data_api_that_does_not_answer_keeps_nobody_beyond_his_time(
    server: data_api.DataApi, store: AstraStore, seconds: float, fault: Any
) -> None:
    user = a_user()
    calls: list[Any] = [
        lambda: store.get(user.user_id),
        lambda: store.find_credentials(user.email),
        lambda: store.register(user, HASH),
        lambda: store.rename(user, "Bea", None),
    ]
    with server.fail(fault):
        for call in calls * 2:
            with deadline.within(seconds), pytest.raises(DeadlineExceeded):
                call()
    assert store.get(user.user_id) is None  # and it goes on when the server does


def test_without_a_deadline_a_setting_ends_the_wait(
    prepared: tuple[data_api.DataApi, Connection], server: data_api.DataApi
) -> None:
    store = AstraStore(DataApi(replace(prepared[1], max_wait=0.2)))
    with server.fail(Hang()):
        for call in (
            lambda: store.get(uuid4()),
            lambda: store.find_credentials("ann@example.org"),
            lambda: astra_schema.check(store._api),
            store.repair_all,
        ):
            with pytest.raises(StoreUnavailable):
                call()
        # The requests of a registration have that time together: none is left to ask again whether it came to be.
        with pytest.raises(StoreUnavailable):
            store.register(a_user(), HASH)
    assert [request.command for request in server.requests].count("insertOne") == 1
    store.close()


def test_while_the_last_ping_failed_no_call_waits(server: data_api.DataApi, store: AstraStore) -> None:
    with server.fail(HttpStatus(503)), pytest.raises(StoreUnavailable):
        store.ping()
    server.forget_requests()
    calls: list[Any] = [lambda: store.get(uuid4()), lambda: store.register(a_user(), HASH)]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()
    assert server.requests == []
    store.ping()
    assert store.get(uuid4()) is None


def test_reads_and_idempotent_writes_are_tried_twice(server: data_api.DataApi, store: AstraStore) -> None:
    user = a_user()
    store.register(user, HASH)
    calls: list[Any] = [
        lambda: store.get(user.user_id),
        lambda: store.find_credentials(user.email),
        lambda: store.rename(user, "Bea", None),
        lambda: store.add_role(user.user_id, Role.CREATOR),
    ]
    for call in calls:
        server.fail(HttpStatus(502), times=1)
        server.forget_requests()
        call()
        assert len(server.requests) == 2


def test_connections_are_reused(server: data_api.DataApi, store: AstraStore) -> None:
    for _ in range(20):
        user = a_user()
        store.register(user, HASH)
        store.get(user.user_id)
        store.find_credentials(user.email)
    assert server.connections == 1


def test_no_repr_shows_how_to_get_in() -> None:
    connection = Connection("https://x", "k", "prod", token="planted", username="u", password="planted")
    assert "planted" not in repr(connection)
