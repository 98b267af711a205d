"""Races between processes."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role
from killrvideo_grpc.domain.changes import (
    AssignRole,
    Change,
    Delete,
    EndSessions,
    Rename,
    RevokeRole,
    SetStatus,
)
from killrvideo_grpc.domain.errors import (
    EmailAlreadyRegistered,
    InvalidCredentials,
    LastModerator,
    RefreshTokenInvalid,
    StoreUnavailable,
    UserNotFound,
)
from killrvideo_grpc.stores.astra.moderator_index import INDEX_ID
from killrvideo_grpc.stores.astra.store import AstraStore
from tests.stores.astra.conftest import OpenStore, Prepared, promoted
from tests.stores.astra.contents import Contents
from tests.support.accounts import (
    HASH,
    OTHER_HASH,
    a_cause,
    a_new_password,
    a_session,
    an_account,
    an_address,
    opening,
    refreshing,
)
from tests.support.fake_data_api import ErrorAnswer, FakeDataApi, Hang, Request, Snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture
def stores(open_store: OpenStore) -> list[AstraStore]:
    return [open_store() for _ in range(4)]


async def settled(stores: list[AstraStore]) -> None:
    for store in stores:
        await store.finish()


async def test_registrations_that_lose_an_address_leave_nothing(stores: list[AstraStore], contents: Contents) -> None:
    address = an_address()
    claims = [an_account(address) for _ in range(32)]
    outcomes = await asyncio.gather(
        *(stores[n % 4].register(claim, HASH, a_cause(claim)) for n, claim in enumerate(claims)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome] == [EmailAlreadyRegistered] * 31
    winner = claims[outcomes.index(None)]
    assert await stores[0].find_credentials(address) == Credentials(winner, HASH)
    await settled(stores)
    assert [claim for claim in claims if contents.document(claim)] == [winner]
    assert [claim for claim in claims if contents.row(claim)] == [winner]


async def test_one_of_many_registrations_of_a_released_address_wins(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    await stores[0].apply(account.user_id, Delete(account.credential_id), a_cause(account))
    claims = [an_account(account.email) for _ in range(16)]
    outcomes = await asyncio.gather(
        *(stores[n % 4].register(claim, HASH, a_cause(claim)) for n, claim in enumerate(claims)),
        return_exceptions=True,
    )
    assert outcomes.count(None) == 1
    winner = claims[outcomes.index(None)]
    assert await stores[0].find_credentials(account.email) == Credentials(winner, HASH)
    await settled(stores)
    assert [claim for claim in claims if contents.document(claim)] == [winner]


async def test_16_refreshes_at_once_have_one_successor(stores: list[AstraStore], account: Account) -> None:
    session = a_session()
    await stores[0].apply(account.user_id, opening(account, session), a_cause(account))
    refreshed = await asyncio.gather(
        *(stores[n % 4].apply(account.user_id, refreshing(session), a_cause(account)) for n in range(16))
    )
    assert {found.sessions[session.session_id].generation for found in refreshed} == {2}


async def test_refreshes_do_not_bring_back_a_session_that_ends(stores: list[AstraStore], account: Account) -> None:
    session = a_session()
    await stores[0].apply(account.user_id, opening(account, session), a_cause(account))
    end = EndSessions(frozenset({session.session_id}))
    refreshes: list[Change] = [refreshing(session) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(
            stores[n % 4].apply(account.user_id, change, a_cause(account))
            for n, change in enumerate([*refreshes[:4], end, *refreshes[4:]])
        ),
        return_exceptions=True,
    )
    assert all(isinstance(outcome, Account | RefreshTokenInvalid) for outcome in outcomes)
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sessions == {}


@pytest.mark.parametrize("_", range(3))
async def test_no_login_outlives_a_new_password(stores: list[AstraStore], account: Account, _: int) -> None:
    async def log_in(store: AstraStore) -> None:
        found = await store.find_credentials(account.email)
        assert found
        if found.password_hash == HASH:
            with suppress(InvalidCredentials):
                await store.apply(account.user_id, opening(account), a_cause(account), seen=found.account)

    change = a_new_password(account)
    await asyncio.gather(
        *(log_in(store) for store in stores * 2), stores[0].apply(account.user_id, change, a_cause(account))
    )
    found = await stores[1].find_credentials(account.email)
    assert found
    assert (found.password_hash, found.account.sessions) == (
        OTHER_HASH,
        {change.session.session_id: change.session},
    )


async def test_rows_follow_the_last_of_many_changes(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    await asyncio.gather(
        *(stores[n % 4].apply(account.user_id, Rename(f"Ann{n}", None), a_cause(account)) for n in range(16))
    )
    await settled(stores)
    await stores[0].sweep()
    assert (contents.row(account) or {})["firstname"] == contents.existing(account)["firstname"]
    assert contents.pending() == []


async def test_changes_that_race_with_a_deletion_leave_nothing(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    changes: list[Callable[[], Change]] = [
        lambda: Rename("Planted", "Planted"),
        lambda: opening(account, a_session(user_agent="planted")),
        lambda: a_new_password(account, "planted", a_session(user_agent="planted")),
        lambda: SetStatus(AccountStatus.ACTIVE),
    ]
    # A password change that came before the deletion would make the deletion fail.
    await stores[0].apply(account.user_id, first := a_new_password(account), a_cause(account))
    current = replace(account, credential_id=first.new_credential_id)

    async def change(number: int) -> None:
        with suppress(UserNotFound, InvalidCredentials):
            await stores[number % 4].apply(account.user_id, changes[number % len(changes)](), a_cause(account))

    deletion = stores[0].apply(current.user_id, Delete(current.credential_id), a_cause(account))
    await asyncio.gather(*(change(number) for number in range(4)), deletion, *(change(number) for number in range(8)))
    await settled(stores)
    await stores[0].sweep()
    assert await stores[1].get(account.user_id) is None
    assert contents.row(account) is None
    assert "planted" not in contents.everything().lower()


async def test_of_many_deletions_at_once_one_is_recorded(
    stores: list[AstraStore], account: Account, contents: Contents
) -> None:
    events = [a_cause(account) for _ in stores]
    outcomes = await asyncio.gather(
        *(
            store.apply(account.user_id, Delete(account.credential_id), event)
            for store, event in zip(stores, events, strict=True)
        ),
        return_exceptions=True,
    )
    await settled(stores)
    await stores[0].sweep()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Account", *["UserNotFound"] * 3]
    expected = [2 if isinstance(outcome, Account) else 0 for outcome in outcomes]
    assert [sum(contents.recorded(event)) for event in events] == expected


async def test_conflicts_are_tried_again(server: FakeDataApi, store: AstraStore) -> None:
    account = an_account()
    server.fail(ErrorAnswer("FAILED_CONCURRENT_OPERATIONS"), times=5)
    await store.register(account, HASH, a_cause(account))
    assert await store.get(account.user_id) == account


# There is always a moderator.


@pytest.fixture(scope="module")
def promotions(prepared: Prepared) -> tuple[list[Account], Snapshot]:
    return promoted(prepared, 3)


@pytest.fixture
def moderators(server: FakeDataApi, promotions: tuple[list[Account], Snapshot]) -> list[Account]:
    """Three accounts, the only moderators."""
    accounts, snapshot = promotions
    server.restore(snapshot)
    return accounts


DEMOTIONS: list[Callable[[AstraStore, Account], Any]] = [
    lambda store, account: store.apply(account.user_id, RevokeRole(Role.MODERATOR), a_cause(account)),
    lambda store, account: store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), a_cause(account)),
    lambda store, account: store.apply(account.user_id, Delete(account.credential_id), a_cause(account)),
]


@pytest.mark.parametrize("demote", DEMOTIONS * 2, ids=["revoke", "suspend", "delete"] * 2)
async def test_of_three_moderators_who_demote_each_other_one_is_left(
    stores: list[AstraStore], moderators: list[Account], contents: Contents, demote: Callable[..., Any]
) -> None:
    outcomes = await asyncio.gather(
        *(demote(store, account) for store, account in zip(stores, moderators, strict=False)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [LastModerator]
    assert contents.index() == contents.moderators() == {str(moderators[_refused(outcomes)].user_id)}


def _refused(outcomes: list[Any]) -> int:
    return next(n for n, outcome in enumerate(outcomes) if isinstance(outcome, LastModerator))


def adds_to_index(request: Request) -> bool:
    """Whether the request adds a moderator to the index."""
    return writes_index(request) and request.arguments["update"]["$set"].get("leaving") is None


def writes_index(request: Request) -> bool:
    """Whether the request writes the moderator index."""
    changed = request.arguments.get("update", {}).get("$set", {})
    return request.command == "updateOne" and not changed.keys().isdisjoint({"ids", "leaving"})


def is_demotion(request: Request) -> bool:
    """Whether the request revokes the moderator role of an account."""
    changed = request.arguments.get("update", {}).get("$set", {})
    return request.command == "updateOne" and changed.get("roles") == ["viewer"]


async def test_an_account_demoted_while_being_promoted_is_not_in_the_index(
    server: FakeDataApi, stores: list[AstraStore], moderators: list[Account], account: Account, contents: Contents
) -> None:
    server.forget_requests()
    with server.fail(Hang(), where=adds_to_index, times=1):
        promotion = asyncio.create_task(stores[0].apply(account.user_id, AssignRole(Role.MODERATOR), a_cause(account)))
        await asyncio.to_thread(server.wait_for, where=adds_to_index)
        await stores[1].apply(account.user_id, RevokeRole(Role.MODERATOR), a_cause(account))
    await promotion
    assert contents.index() == contents.moderators() == {str(moderator.user_id) for moderator in moderators}


async def test_an_account_promoted_while_being_demoted_is_not_in_the_index(
    server: FakeDataApi, stores: list[AstraStore], moderators: list[Account], contents: Contents
) -> None:
    demoted, *others = moderators
    with server.fail(Hang(), where=is_demotion, times=1):
        demotion = asyncio.create_task(stores[0].apply(demoted.user_id, RevokeRole(Role.MODERATOR), a_cause(demoted)))
        await asyncio.to_thread(server.wait_for, where=is_demotion)
        await stores[1].apply(demoted.user_id, AssignRole(Role.MODERATOR), a_cause(demoted))
    await demotion
    assert contents.index() == contents.moderators() == {str(moderator.user_id) for moderator in others}


async def test_an_account_that_a_sweep_lists_again_is_not_demoted(
    server: FakeDataApi, stores: list[AstraStore], moderators: list[Account], contents: Contents
) -> None:
    """The demotion was slow to write the account, and can't remove it from the index again."""
    demoted = moderators[0]
    with ExitStack() as stack:
        with server.fail(Hang(), where=is_demotion, times=1):
            change = RevokeRole(Role.MODERATOR)
            demotion = asyncio.create_task(stores[0].apply(demoted.user_id, change, a_cause(demoted)))
            await asyncio.to_thread(server.wait_for, where=is_demotion)
            await stores[1].sweep()
            assert str(demoted.user_id) in contents.index()
            stack.enter_context(server.fail(ErrorAnswer("UNEXPECTED_DRIVER_ERROR"), where=writes_index))
        with pytest.raises(StoreUnavailable):
            await demotion
        await settled(stores)
        assert contents.index() <= contents.moderators()


async def test_a_failed_demotion_restores_the_index(
    server: FakeDataApi, stores: list[AstraStore], moderators: list[Account], contents: Contents
) -> None:
    with server.fail(ErrorAnswer("UNEXPECTED_DRIVER_ERROR"), where=is_demotion), pytest.raises(StoreUnavailable):
        await stores[0].apply(moderators[0].user_id, RevokeRole(Role.MODERATOR), a_cause(moderators[0]))
    await settled(stores)
    assert contents.index() == contents.moderators() == {str(moderator.user_id) for moderator in moderators}


@pytest.mark.parametrize("demote", DEMOTIONS, ids=["revoke", "suspend", "delete"])
async def test_a_sweep_finishes_a_demotion(
    server: FakeDataApi,
    stores: list[AstraStore],
    moderators: list[Account],
    contents: Contents,
    demote: Callable[..., Any],
) -> None:
    demoted, *others = moderators
    with server.fail(ErrorAnswer("UNEXPECTED_DRIVER_ERROR"), where=writes_index, skip=1):
        await demote(stores[0], demoted)
        await settled(stores)
    assert INDEX_ID in contents.pending()
    await stores[1].sweep()
    assert contents.pending() == []
    assert contents.index() == contents.moderators() == {str(moderator.user_id) for moderator in others}
