"""How calls fail, and how fast, on a Data API that refuses, hangs, returns garbage or is down."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import Delete, Rename
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.astra import background
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, EVENTS_BY_DAY, MAX_REQUESTS, USERS, DataApi, Keyspace
from killrvideo_grpc.stores.data_api.errors import RequestRefused
from tests.stores.astra.conftest import OpenStore, Prepared, written
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import LOST
from tests.support import fake_data_api
from tests.support.accounts import HASH, a_cause, an_account, opening, registered
from tests.support.fake_data_api import Drip, ErrorAnswer, Hang, HttpStatus

pytestmark = pytest.mark.anyio

EDGE_ERRORS = [
    *LOST,
    *(HttpStatus(status) for status in (401, 403, 429, 502, 504)),
    *(ErrorAnswer(code) for code in ("FAILED_TO_CONNECT_TO_DATABASE", "RENAMED_NEXT_YEAR")),
]

Call = Callable[[AstraStore, Account], Awaitable[object]]
CALLS: dict[str, Call] = {
    "get": lambda store, account: store.get(account.user_id),
    "get_many": lambda store, account: store.get_many([account.user_id, uuid4()]),
    "get_credentials": lambda store, account: store.get_credentials(account.user_id),
    "find_credentials": lambda store, account: store.find_credentials(account.email),
    "register": lambda store, account: store.register(account, HASH, a_cause(account)),
    "apply": lambda store, account: store.apply(account.user_id, Rename("planted", None), a_cause(account)),
    "delete": lambda store, account: store.apply(account.user_id, Delete(account.credential_id), a_cause(account)),
    "sweep": lambda store, account: store.sweep(),
}


def ping(store: AstraStore, account: Account) -> Awaitable[object]:
    return store.ping()


# Without `register`, whose account exists already, and `sweep`, which requests each page of documents only once.
IDEMPOTENT = ["get", "get_many", "get_credentials", "find_credentials", "apply", "delete"]


@pytest.fixture(scope="module")
def account_and_snapshot(prepared: Prepared) -> tuple[Account, fake_data_api.Snapshot]:
    return written(prepared, lambda store: registered(store, f"planted.{uuid4().hex}@example.org"))


@pytest.fixture
async def impatient(prepared: Prepared) -> AsyncIterator[AstraStore]:
    """A store whose calls may take 0.2 s."""
    store = AstraStore(DataApi(replace(prepared[1], max_wait=0.2)))
    yield store
    await store.close()


@pytest.mark.parametrize("fault", EDGE_ERRORS, ids=repr)
async def test_trouble_is_unavailable_and_logged_without_data(
    server: fake_data_api.FakeDataApi,
    store: AstraStore,
    account: Account,
    fault: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server.fail(fault):
        for call in (*CALLS.values(), ping):
            with pytest.raises(StoreUnavailable):
                await call(store, account)
    printed = "".join(capsys.readouterr())
    assert "cause" in printed
    assert "planted" not in printed


async def test_a_refused_request_is_a_bug(
    server: fake_data_api.FakeDataApi, store: AstraStore, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.fail(ErrorAnswer("FILTER_INVALID_EXPRESSION", family="REQUEST")):
        for call in CALLS.values():
            with pytest.raises(RequestRefused, match="FILTER_INVALID_EXPRESSION"):
                await call(store, account)
        with pytest.raises(StoreUnavailable):
            await store.ping()
    printed = "".join(capsys.readouterr())
    assert "FILTER_INVALID_EXPRESSION" in printed
    assert "planted" not in printed


async def test_no_data_api_at_all() -> None:
    store = AstraStore(DataApi(Keyspace("http://127.0.0.1:9", "killrvideo", "cassandra", username="u", password="p")))
    with pytest.raises(StoreUnavailable):
        await store.get(uuid4())
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.close()


async def test_opening_sends_nothing(server: fake_data_api.FakeDataApi, open_store: OpenStore) -> None:
    open_store()
    assert (server.requests, server.connections) == ([], 0)


@pytest.mark.parametrize("fault", [Hang(), Drip(0.05)], ids=["hanging", "dripping"])
@pytest.mark.parametrize("name", [*CALLS, "ping"])
async def test_no_call_to_a_stuck_data_api_takes_longer_than_max_wait(
    server: fake_data_api.FakeDataApi, impatient: AstraStore, account: Account, name: str, fault: Any
) -> None:
    call = CALLS.get(name, ping)

    async def seconds() -> float:
        started = time.monotonic()
        with server.fail(fault), pytest.raises(StoreUnavailable, match=r"time-out|^$"):
            await call(impatient, account)
        return time.monotonic() - started

    await one_of_five_takes_less_than(2.0, seconds)  # all requests of the call together
    await impatient.ping()
    await impatient.get(account.user_id)  # works again once the server does


@pytest.mark.parametrize("fault", [Hang(), Drip(0.05)], ids=["hanging", "dripping"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_call_ends_at_once(
    server: fake_data_api.FakeDataApi, store: AstraStore, account: Account, name: str, fault: Any
) -> None:
    with server.fail(fault), pytest.raises(TimeoutError):  # our own time limit, not the store's
        async with asyncio.timeout(0.1):
            await CALLS[name](store, account)


async def test_look_ups_behind_hanging_requests_wait_no_longer_than_max_wait(
    server: fake_data_api.FakeDataApi, impatient: AstraStore
) -> None:
    async def seconds() -> float:
        started = time.monotonic()
        with server.fail(Hang()):
            outcomes = await asyncio.gather(*(impatient.get(uuid4()) for _ in range(300)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        return time.monotonic() - started

    await one_of_five_takes_less_than(2.0, seconds)


async def one_of_five_takes_less_than(most: float, seconds: Callable[[], Awaitable[float]]) -> None:
    """A busy machine can hold up any of them."""
    took: list[float] = []
    while len(took) < 5 and not any(each < most for each in took):
        took.append(await seconds())
    assert min(took) < most


async def test_a_ping_waits_for_no_other_request(server: fake_data_api.FakeDataApi, store: AstraStore) -> None:
    with server.fail(Hang(), times=MAX_REQUESTS):
        calls = [asyncio.create_task(store.get_credentials(uuid4())) for _ in range(2 * MAX_REQUESTS)]
        await asyncio.to_thread(server.wait_until, lambda: len(server.requests) == MAX_REQUESTS)
        async with asyncio.timeout(2):
            await store.ping()
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_a_thousand_cancelled_calls_leak_no_connection(
    server: fake_data_api.FakeDataApi, store: AstraStore, account: Account
) -> None:
    calls = list(CALLS.values())
    for batch in range(10):
        with server.fail(Hang() if batch % 2 else Drip(0.05)):
            tasks = [asyncio.create_task(_quietly(calls[n % len(calls)], store, account)) for n in range(100)]
            if batch % 3:
                await asyncio.to_thread(server.wait_until, lambda: bool(server.requests))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        server.forget_requests()
    await store.finish()
    if under_way := set(store._reads._requests):  # shared requests are not cancelled with their callers
        await asyncio.wait(under_way)
    pool = store._api._http._transport._pool
    assert pool._requests == []
    assert all(connection.is_idle() for connection in pool.connections)
    assert len(pool.connections) <= MAX_REQUESTS
    # All permits are free again for concurrent requests.
    assert await asyncio.gather(*(store.get_credentials(uuid4()) for _ in range(2 * MAX_REQUESTS)))


async def _quietly(call: Call, store: AstraStore, account: Account) -> None:
    with suppress(Exception):
        await call(store, account)


async def test_after_a_failed_ping_calls_fail_without_a_request(
    server: fake_data_api.FakeDataApi, store: AstraStore, account: Account
) -> None:
    with server.fail(HttpStatus(503)), pytest.raises(StoreUnavailable):
        await store.ping()
    server.forget_requests()
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable):
            await call(store, account)
    assert server.requests == []
    await store.ping()
    assert await store.get(account.user_id) == account


@pytest.mark.parametrize("name", IDEMPOTENT)
async def test_requests_that_are_safe_to_repeat_are_tried_twice(
    server: fake_data_api.FakeDataApi, store: AstraStore, account: Account, name: str
) -> None:
    with server.fail(HttpStatus(502), times=1):
        await CALLS[name](store, account)
    await store.finish()
    with server.fail(HttpStatus(502), times=2), pytest.raises(StoreUnavailable):
        await CALLS[name](store, account)


async def test_connections_are_reused(server: fake_data_api.FakeDataApi, store: AstraStore) -> None:
    for _ in range(3):
        account = an_account()
        await store.register(account, HASH, a_cause(account))
        await store.finish()
        await store.get(account.user_id)
        await store.find_credentials(account.email)
    assert server.connections == 1


async def test_what_fails_in_the_background_is_logged_and_left_to_the_sweep(
    server: fake_data_api.FakeDataApi,
    store: AstraStore,
    account: Account,
    contents: Contents,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server.fail(ErrorAnswer("INVALID_COLUMN_VALUES", "REQUEST", "DOCUMENT"), name=USERS):
        await store.apply(account.user_id, Rename("planted", None), a_cause(account))
        await store.finish()
    printed = "".join(capsys.readouterr())
    assert "projection_deferred" in printed
    assert "planted" not in printed
    assert await store.sweep() == 1
    assert (contents.row(account) or {})["firstname"] == "planted"


async def test_an_account_that_cannot_be_finished_does_not_stop_the_others(
    server: fake_data_api.FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    other = an_account()
    await store.register(other, HASH, a_cause(other))
    refusal = ErrorAnswer("INVALID_COLUMN_VALUES", "REQUEST", "DOCUMENT")

    def is_of_account(request: fake_data_api.Request) -> bool:
        return str(account.user_id) in str(request.body)

    with server.fail(refusal, name=USERS, command="insertOne"):
        for one in (account, other):
            await store.apply(one.user_id, Rename("Bea", None), a_cause(one))
        await store.finish()
    with server.fail(refusal, name=USERS, command="insertOne", where=is_of_account):
        assert await store.sweep() == 2  # with the one that remains
    assert (contents.row(other) or {})["firstname"] == "Bea"
    assert await store.sweep() == 1


async def test_closing_finishes_what_is_quick_and_abandons_the_rest(
    server: fake_data_api.FakeDataApi,
    open_store: OpenStore,
    account: Account,
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick, slow = open_store(), open_store()
    await quick.apply(account.user_id, Rename("Bea", None), a_cause(account))
    await quick.close()
    assert (contents.row(account) or {})["firstname"] == "Bea"
    monkeypatch.setattr(background, "CLOSE_SECONDS", 0.1)
    with server.fail(Hang(), name=USERS):
        await slow.apply(account.user_id, Rename("Cleo", None), a_cause(account))
        async with asyncio.timeout(2):
            await slow.close()
    assert (contents.row(account) or {})["firstname"] == "Bea"
    assert await open_store().sweep() == 1


async def test_background_work_beyond_the_bound_is_not_lost(
    store: AstraStore, account: Account, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MAX_WAITING", 0)
    await store.apply(account.user_id, opening(account), a_cause(account))
    await store.finish()
    assert contents.pending() == [document_id(account.user_id)]
    await store.sweep()
    assert contents.pending() == []


def test_no_repr_shows_credentials() -> None:
    keyspace = Keyspace("https://x", "k", "prod", token="planted", username="u", password="planted")
    assert "planted" not in repr(keyspace)


async def test_one_http_client_serves_all(prepared: Prepared, server: fake_data_api.FakeDataApi) -> None:
    api = DataApi(prepared[1])
    await api.find_document("-")
    for table in (USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY):
        await api.row_page(table, {})
    await api.send("list tables", api.database.list_table_names)
    assert server.connections == 1
    await api.close()
