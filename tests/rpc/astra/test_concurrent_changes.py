"""Logins and refreshes of accounts that are changed concurrently, on a Data API."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import DataApi
from tests.rpc.astra.service import CHANGE, Service, attempt, call, start_calls, valid_requests
from tests.rpc.conftest import Account
from tests.support.concurrent_changes import SPOILS_LOGIN, SPOILS_REFRESH, Step, deletion, refresh
from tests.support.fake_data_api import Hang, Request
from tests.support.keyspaces import keyspace_at


def opens_session(request: Request) -> bool:
    return request.command == CHANGE and "last_login_date" in request.arguments["update"].get("$set", ())


def raises_generation(request: Request) -> bool:
    changed = request.arguments.get("update", {}).get("$set", {})
    return request.command == CHANGE and "sessions" in changed and "last_login_date" not in changed


def interfered(service: Service, account: Account, rpc: str, at: Callable[[Request], bool], step: Step) -> Any:
    """Make a call, and change its account just before the call's update. Return the call's future."""
    found = service.loop.run(service.store.get(UUID(account.user_id)))
    assert found
    service.data_api.forget_requests()
    with service.data_api.fail(Hang(), where=at, times=1):
        (made,) = start_calls(valid_requests([rpc], account), account)
        service.data_api.wait_for(where=at)

        async def happen() -> None:
            other = AstraStore(DataApi(keyspace_at(service.data_api.url)))  # as another process would
            await step(other, found)
            await other.close()

        service.loop.run(happen())
    return made


@pytest.mark.parametrize("step", SPOILS_LOGIN)
def test_a_login(service: Service, account: Account, step: Step) -> None:
    failure = attempt(interfered(service, account, "Login", opens_session, step).result)
    assert failure
    assert failure.reason == SPOILS_LOGIN[step]


@pytest.mark.parametrize("step", SPOILS_REFRESH)
def test_a_refresh(service: Service, account: Account, step: Step) -> None:
    failure = attempt(interfered(service, account, "RefreshToken", raises_generation, step).result)
    assert failure
    assert failure.reason == SPOILS_REFRESH[step]
    ended = attempt(lambda: call("ListSessions", account))
    assert ended
    assert ended.reason == ("USER_NOT_FOUND" if step is deletion else "SESSION_ENDED")


def test_two_tabs_that_refresh_have_one_successor(service: Service, account: Account) -> None:
    successor = interfered(service, account, "RefreshToken", raises_generation, refresh).result().refresh_token
    assert call("RefreshToken", account).refresh_token == successor
