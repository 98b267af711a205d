"""What every AccountStore promises of the last active moderator: there is always one, unless an operator insists."""

import asyncio

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.changes import Action, AssignRole, Change, RevokeRole, SetStatus
from killrvideo_grpc.domain.errors import LastModerator
from killrvideo_grpc.domain.ports import AccountStore
from tests.stores.harness import Harness
from tests.support.accounts import an_event

pytestmark = pytest.mark.anyio

DEMOTE, SUSPEND = RevokeRole(Role.MODERATOR), SetStatus(AccountStatus.SUSPENDED)


@pytest.fixture
async def last(store: AccountStore, moderators: list[Account]) -> Account:
    """The only active moderator: of the other two, one is suspended and one demoted."""
    await store.apply(moderators[1], SUSPEND)
    await store.apply(moderators[2], DEMOTE)
    return moderators[0]


@pytest.mark.parametrize("change", [DEMOTE, SUSPEND])
async def test_the_last_moderator_stays(store: AccountStore, last: Account, change: Change) -> None:
    with pytest.raises(LastModerator):
        await store.apply(last, change)
    assert await store.get(last.user_id) == last


async def test_the_last_moderator_is_not_deleted(store: AccountStore, last: Account) -> None:
    with pytest.raises(LastModerator):
        await store.delete(last, an_event(last, Action.DELETED))
    assert await store.get(last.user_id) == last


async def test_a_refused_change_leaves_no_event(harness: Harness, store: AccountStore, last: Account) -> None:
    events = [an_event(last, Action.ROLE_REVOKED), an_event(last, Action.DELETED)]
    with pytest.raises(LastModerator):
        await store.apply(last, DEMOTE, events[0])
    with pytest.raises(LastModerator):
        await store.delete(last, events[1])
    assert not [event for event in events if str(event.event_id) in harness.raw_text()]


async def test_force_lets_the_last_moderator_go(store: AccountStore, last: Account, moderators: list[Account]) -> None:
    demoted = await store.apply(last, RevokeRole(Role.MODERATOR, force=True))
    assert demoted.roles == {Role.VIEWER}
    suspended = await store.get(moderators[1].user_id)
    assert suspended
    await store.apply(suspended, DEMOTE)  # not active before either, so the rule doesn't apply
    await store.apply(last, AssignRole(Role.MODERATOR))
    await store.delete(last, an_event(last, Action.DELETED), force=True)
    assert await store.get(last.user_id) is None


async def test_everybody_but_the_last_moderator_can_be_removed(
    store: AccountStore, last: Account, moderators: list[Account]
) -> None:
    """Suspended moderators and other accounts are not protected."""
    _, suspended, demoted = moderators
    await store.apply(suspended, SUSPEND)
    assert (await store.apply(suspended, DEMOTE)).roles == {Role.VIEWER}
    await store.apply(last, RevokeRole(Role.CREATOR))
    await store.apply(demoted, SUSPEND)
    await store.delete(demoted, an_event(demoted, Action.DELETED))
    await store.delete(suspended, an_event(suspended, Action.DELETED))


async def test_a_reinstated_moderator_counts_again(
    store: AccountStore, last: Account, moderators: list[Account]
) -> None:
    await store.apply(moderators[1], SetStatus(AccountStatus.ACTIVE))
    assert (await store.apply(last, DEMOTE)).roles == {Role.VIEWER}
    with pytest.raises(LastModerator):
        await store.apply(moderators[1], DEMOTE)


async def test_a_suspended_account_that_is_promoted_does_not_count(
    store: AccountStore, last: Account, moderators: list[Account]
) -> None:
    await store.apply(moderators[2], SUSPEND)
    await store.apply(moderators[2], AssignRole(Role.MODERATOR))
    with pytest.raises(LastModerator):
        await store.apply(last, DEMOTE)


async def test_a_database_without_moderators_changes_freely(store: AccountStore, account: Account) -> None:
    await store.apply(account, DEMOTE)
    await store.apply(account, SUSPEND)
    await store.delete(account, an_event(account, Action.DELETED))


@pytest.mark.parametrize("change", [DEMOTE, SUSPEND], ids=["demote", "suspend"])
@pytest.mark.parametrize("count", [2, 3])
async def test_of_moderators_who_remove_each_other_one_is_left(
    stores: list[AccountStore], moderators: list[Account], count: int, change: Change
) -> None:
    await asyncio.gather(*(stores[0].apply(moderator, DEMOTE) for moderator in moderators[count:]))
    for _ in range(10):
        outcomes = await asyncio.gather(
            *(stores[n % 2].apply(moderator, change) for n, moderator in enumerate(moderators[:count])),
            return_exceptions=True,
        )
        found = await stores[0].get_many([moderator.user_id for moderator in moderators])
        assert [_is_active_moderator(account) for account in found.values()].count(True) == 1
        assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [LastModerator]
        for moderator in moderators[:count]:
            await stores[0].apply(moderator, AssignRole(Role.MODERATOR))
            await stores[0].apply(moderator, SetStatus(AccountStatus.ACTIVE))


async def test_of_moderators_who_delete_their_accounts_at_once_one_is_left(
    stores: list[AccountStore], moderators: list[Account]
) -> None:
    outcomes = await asyncio.gather(
        *(store.delete(m, an_event(m, Action.DELETED)) for store, m in zip(stores, moderators, strict=False)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome] == [LastModerator]
    assert len(await stores[0].get_many([m.user_id for m in moderators])) == 1


def _is_active_moderator(account: Account) -> bool:
    return account.status is AccountStatus.ACTIVE and Role.MODERATOR in account.roles
