"""Races between processes, decided by the Data API's atomic updates of a document."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, now
from killrvideo_grpc.domain.changes import (
    Action,
    AssignRole,
    Change,
    ChangePassword,
    EndSessions,
    OpenSession,
    RefreshSession,
    Rename,
    RevokeRole,
    SetStatus,
)
from killrvideo_grpc.domain.errors import (
    EmailAlreadyRegistered,
    InvalidCredentials,
    LastModerator,
    StoreUnavailable,
    UserNotFound,
)
from killrvideo_grpc.stores.astra.moderator_index import GUARD
from killrvideo_grpc.stores.astra.store import AstraStore
from tests.stores.astra.conftest import OpenStore
from tests.stores.astra.contents import Contents
from tests.support.accounts import HASH, OTHER_HASH, a_new_password, a_session, an_account, an_address, an_event
from tests.support.fake_data_api import ErrorAnswer, FakeDataApi, Hang, Request

pytestmark = pytest.mark.anyio


@pytest.fixture
def stores(open_store: OpenStore) -> list[AstraStore]:
    return [open_store() for _ in range(4)]


@pytest.fixture
async def account(store: AstraStore) -> Account:
    account = an_account()
    await store.register(account, HASH, an_event(account))
    return account


async def settled(stores: list[AstraStore]) -> None:
    for store in stores:
        await store._background.finish()


async def test_one_of_64_registrations_wins(stores: list[AstraStore], contents: Contents) -> None:
    address = an_address()
    claims = [an_account(address) for _ in range(64)]
    outcomes = await asyncio.gather(
        *(stores[n % 4].register(claim, HASH, an_event(claim)) for n, claim in enumerate(claims)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome] == [EmailAlreadyRegistered] * 63
    winner = claims[outcomes.index(None)]
    assert await stores[0].find_credentials(address) == Credentials(winner, HASH)
    await settled(stores)
    assert [claim for claim in claims if contents.document(claim)] == [winner]
    assert [claim for claim in claims if contents.row(claim)] == [winner]


async def test_one_of_many_registrations_of_a_released_address_wins(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    await stores[0].delete(account, an_event(account, Action.DELETED))
    claims = [an_account(account.email) for _ in range(16)]
    outcomes = await asyncio.gather(
        *(stores[n % 4].register(claim, HASH, an_event(claim)) for n, claim in enumerate(claims)),
        return_exceptions=True,
    )
    assert outcomes.count(None) == 1
    winner = claims[outcomes.index(None)]
    assert await stores[0].find_credentials(account.email) == Credentials(winner, HASH)
    await settled(stores)
    assert [claim for claim in claims if contents.document(claim)] == [winner]


async def test_16_refreshes_at_once_have_one_successor(stores: list[AstraStore], account: Account) -> None:
    session = a_session(account)
    await stores[0].apply(account, OpenSession(session))
    refreshed = await asyncio.gather(
        *(stores[n % 4].apply(account, RefreshSession(session.session_id, 2, now())) for n in range(16))
    )
    assert {found.sessions[session.session_id].generation for found in refreshed} == {2}


async def test_refreshes_do_not_bring_back_a_session_that_ends(stores: list[AstraStore], account: Account) -> None:
    session = a_session(account)
    await stores[0].apply(account, OpenSession(session))
    end = EndSessions(frozenset({session.session_id}))
    refreshes: list[Change] = [RefreshSession(session.session_id, 2, now()) for _ in range(8)]
    await asyncio.gather(
        *(stores[n % 4].apply(account, change) for n, change in enumerate([*refreshes[:4], end, *refreshes[4:]]))
    )
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == {}


@pytest.mark.parametrize("_", range(5))
async def test_no_login_outlives_a_new_password(stores: list[AstraStore], account: Account, _: int) -> None:
    async def log_in(store: AstraStore) -> None:
        found = await store.find_credentials(account.email)
        assert found
        if found.password_hash == HASH:
            await store.apply(found.account, OpenSession(a_session(found.account)))

    new = a_session(account, credential_id=uuid4().hex)
    change = ChangePassword(account.credential_id, OTHER_HASH, new)
    await asyncio.gather(*(log_in(store) for store in stores * 2), stores[0].apply(account, change))
    found = await stores[1].find_credentials(account.email)
    assert found
    assert (found.password_hash, found.account.sessions) == (OTHER_HASH, {new.session_id: new})


async def test_rows_follow_the_last_of_many_changes(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    events = [an_event(account) for _ in range(16)]
    await asyncio.gather(
        *(stores[n % 4].apply(account, Rename(f"Ann{n}", None), event) for n, event in enumerate(events))
    )
    await settled(stores)
    await stores[0].sweep()
    assert (contents.row(account) or {})["firstname"] == contents.existing(account)["firstname"]
    assert all(contents.has_event(event) for event in events)
    assert contents.pending() == []


async def test_changes_that_race_with_a_deletion_leave_nothing(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    changes: list[Callable[[], Change]] = [
        lambda: Rename("Planted", "Planted"),
        lambda: OpenSession(a_session(account, user_agent="planted")),
        lambda: a_new_password(account, "planted", user_agent="planted"),
        lambda: SetStatus(AccountStatus.ACTIVE),
    ]
    # A password change that came before the deletion would make the deletion fail.
    await stores[0].apply(account, first := a_new_password(account))
    current = replace(account, credential_id=first.session.credential_id)

    async def change(number: int) -> None:
        with suppress(UserNotFound, InvalidCredentials):
            await stores[number % 4].apply(account, changes[number % len(changes)](), an_event(account))

    deletion = stores[0].delete(current, an_event(account, Action.DELETED))
    await asyncio.gather(*(change(number) for number in range(4)), deletion, *(change(number) for number in range(8)))
    await settled(stores)
    await stores[0].sweep()
    assert await stores[1].get(account.user_id) is None
    assert contents.row(account) is None
    assert "planted" not in contents.everything().lower()


async def test_of_many_deletions_at_once_one_is_recorded(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    events = [an_event(account, Action.DELETED) for _ in stores]
    outcomes = await asyncio.gather(
        *(store.delete(account, event) for store, event in zip(stores, events, strict=True)), return_exceptions=True
    )
    await settled(stores)
    await stores[0].sweep()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", *["UserNotFound"] * 3]
    assert [sum(contents.recorded(event)) for event in events] == [2 if outcome is None else 0 for outcome in outcomes]


async def test_conflicts_are_tried_again(server: FakeDataApi, store: AstraStore) -> None:
    account = an_account()
    server.fail(ErrorAnswer("FAILED_CONCURRENT_OPERATIONS"), times=5)
    await store.register(account, HASH, an_event(account))
    assert await store.get(account.user_id) == account


# 8. There is always a moderator.


@pytest.fixture
async def moderators(stores: list[AstraStore], contents: Contents) -> list[Account]:
    assert contents.guard() == set()
    accounts = [an_account() for _ in range(3)]
    for account in accounts:
        await stores[0].register(account, HASH, an_event(account))
        await stores[0].apply(account, AssignRole(Role.MODERATOR))
    return accounts


@pytest.fixture(autouse=True)
async def no_moderators_in_the_end(open_store: OpenStore, contents: Contents) -> Any:
    yield
    store = open_store()
    for user_id in contents.moderators():
        found = await store.get(UUID(user_id))
        assert found
        await store.apply(found, RevokeRole(Role.MODERATOR, force=True))


DEMOTIONS: list[Callable[[AstraStore, Account], Any]] = [
    lambda store, account: store.apply(account, RevokeRole(Role.MODERATOR)),
    lambda store, account: store.apply(account, SetStatus(AccountStatus.SUSPENDED)),
    lambda store, account: store.delete(account, an_event(account, Action.DELETED)),
]


@pytest.mark.parametrize("demote", DEMOTIONS, ids=["revoke", "suspend", "delete"])
@pytest.mark.parametrize("_", range(3))
async def test_of_three_moderators_who_demote_each_other_one_is_left(
    stores: list[AstraStore], moderators: list[Account], contents: Contents, demote: Callable[..., Any], _: int
) -> None:
    outcomes = await asyncio.gather(
        *(demote(store, account) for store, account in zip(stores, moderators, strict=False)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [LastModerator]
    assert contents.guard() == contents.moderators() == {str(moderators[_refused(outcomes)].user_id)}


def _refused(outcomes: list[Any]) -> int:
    return next(n for n, outcome in enumerate(outcomes) if isinstance(outcome, LastModerator))


def adds_to_guard(request: Request) -> bool:
    """Whether the request adds a moderator to the guard."""
    arguments = request.arguments
    return (
        request.command == "findOneAndUpdate"
        and arguments["filter"] == {"_id": GUARD}
        and "$set" in arguments["update"]
    )


def is_demotion(request: Request) -> bool:
    """Whether the request revokes the moderator role of an account."""
    pushed = request.arguments.get("update", {}).get("$push", {})
    return request.command == "findOneAndUpdate" and str(pushed.get("history")).endswith("-moderator")


async def test_an_account_demoted_while_being_promoted_is_not_in_the_guard(
    server: FakeDataApi, stores: list[AstraStore], moderators: list[Account], account: Account, contents: Contents
) -> None:
    with server.fail(Hang(), where=adds_to_guard, times=1):
        promotion = asyncio.create_task(stores[0].apply(account, AssignRole(Role.MODERATOR)))
        await asyncio.to_thread(server.wait_for, where=adds_to_guard)
        await stores[1].apply(account, RevokeRole(Role.MODERATOR))
    await promotion
    assert contents.guard() == contents.moderators() == {str(moderator.user_id) for moderator in moderators}


async def test_an_account_promoted_while_being_demoted_is_not_in_the_guard(
    server: FakeDataApi, stores: list[AstraStore], moderators: list[Account], contents: Contents
) -> None:
    demoted, *others = moderators
    with server.fail(Hang(), where=is_demotion, times=1):
        demotion = asyncio.create_task(stores[0].apply(demoted, RevokeRole(Role.MODERATOR)))
        await asyncio.to_thread(server.wait_for, where=is_demotion)
        await stores[1].apply(demoted, AssignRole(Role.MODERATOR))
        assert str(demoted.user_id) in contents.guard()
    await demotion
    assert contents.guard() == contents.moderators() == {str(moderator.user_id) for moderator in others}


async def test_a_failed_demotion_restores_the_guard(
    server: FakeDataApi, stores: list[AstraStore], moderators: list[Account], contents: Contents
) -> None:
    with server.fail(ErrorAnswer("UNEXPECTED_DRIVER_ERROR"), where=is_demotion), pytest.raises(StoreUnavailable):
        await stores[0].apply(moderators[0], RevokeRole(Role.MODERATOR))
    await settled(stores)
    assert contents.guard() == contents.moderators() == {str(moderator.user_id) for moderator in moderators}


def is_guard(request: Request) -> bool:
    """Whether the request is for the moderators guard."""
    return bool(request.arguments.get("filter") == {"_id": GUARD})


@pytest.mark.parametrize("demote", DEMOTIONS, ids=["revoke", "suspend", "delete"])
async def test_an_account_that_may_still_be_in_the_guard_stays_pending(
    server: FakeDataApi,
    stores: list[AstraStore],
    moderators: list[Account],
    contents: Contents,
    demote: Callable[..., Any],
) -> None:
    demoted, *others = moderators
    with server.fail(ErrorAnswer("UNEXPECTED_DRIVER_ERROR"), where=is_guard, skip=1):
        await demote(stores[0], demoted)
        await settled(stores)
    assert contents.existing(demoted)["pending"]
    await stores[1].sweep()
    assert contents.guard() == contents.moderators() == {str(moderator.user_id) for moderator in others}
