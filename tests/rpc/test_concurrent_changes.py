"""Logins and refreshes of accounts that are changed concurrently, on SQLite."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from killrvideo.user.v1.user_service_pb2 import ListSessionsRequest, LoginRequest, RefreshTokenRequest

from tests.rpc import concurrent_changes
from tests.rpc.concurrent_changes import SPOILS_LOGIN, SPOILS_REFRESH, Step
from tests.rpc.conftest import Account, Stub
from tests.rpc.test_sessions import reason
from tests.support.accounts import PASSWORD
from tests.support.stores import FlakyStore, undisturbed


class Interference:
    """Changes an account just before the next change of a call."""

    def __init__(self, store: FlakyStore) -> None:
        self._store = store
        self.happened = False

    def plan(self, account: Account, step: Step) -> None:
        async def interfere() -> None:
            self._store.on_change = undisturbed
            found = await self._store.get(UUID(account.user_id))
            assert found
            await step(self._store, found)
            self.happened = True

        self._store.on_change = interfere


@pytest.fixture
def interference(store: FlakyStore) -> Iterator[Interference]:
    interference = Interference(store)
    yield interference
    assert interference.happened


@pytest.mark.parametrize("step", SPOILS_LOGIN)
def test_a_login(grpc_stub: Stub, account: Account, interference: Interference, step: Step) -> None:
    interference.plan(account, step)
    failure = reason(grpc_stub.Login, LoginRequest(email=account.email, password=PASSWORD))
    assert failure == SPOILS_LOGIN[step]


@pytest.mark.parametrize("step", SPOILS_REFRESH)
def test_a_refresh(grpc_stub: Stub, account: Account, interference: Interference, step: Step) -> None:
    interference.plan(account, step)
    request = RefreshTokenRequest(refresh_token=account.login.refresh_token)
    assert reason(grpc_stub.RefreshToken, request) == SPOILS_REFRESH[step]
    ended = reason(grpc_stub.ListSessions, ListSessionsRequest(), account.metadata)
    assert ended == ("USER_NOT_FOUND" if step is concurrent_changes.deletion else "SESSION_ENDED")


def test_two_tabs_that_refresh_have_one_successor(
    grpc_stub: Stub, account: Account, interference: Interference
) -> None:
    interference.plan(account, concurrent_changes.refresh)
    request = RefreshTokenRequest(refresh_token=account.login.refresh_token)
    successors = {grpc_stub.RefreshToken(request).refresh_token for _ in range(2)}
    assert len(successors) == 1
    assert grpc_stub.RefreshToken(RefreshTokenRequest(refresh_token=successors.pop())).token
