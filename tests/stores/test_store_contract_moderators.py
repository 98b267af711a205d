"""What every AccountStore promises of the last active moderator."""

import asyncio

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.changes import AssignRole, Change, Delete, RevokeRole, SetStatus
from killrvideo_grpc.domain.errors import LastModerator
from killrvideo_grpc.domain.ports import AccountStore
from tests.stores.harness import Harness
from tests.support.accounts import a_cause

pytestmark = pytest.mark.anyio

DEMOTE, SUSPEND = RevokeRole(Role.MODERATOR), SetStatus(AccountStatus.SUSPENDED)


@pytest.fixture
async def last(store: AccountStore, moderators: list[Account]) -> Account:
    """The only active moderator: of the other two, one is suspended and one demoted."""
    await store.apply(moderators[1].user_id, SUSPEND, a_cause(moderators[1]))
    await store.apply(moderators[2].user_id, DEMOTE, a_cause(moderators[2]))
    return moderators[0]


@pytest.mark.parametrize("change", [DEMOTE, SUSPEND])
async def test_the_last_moderator_stays(store: AccountStore, last: Account, change: Change) -> None:
    with pytest.raises(LastModerator):
        await store.apply(last.user_id, change, a_cause(last))
    assert await store.get(last.user_id) == last


async def test_the_last_moderator_is_not_deleted(store: AccountStore, last: Account) -> None:
    with pytest.raises(LastModerator):
        await store.apply(last.user_id, Delete(last.credential_id), a_cause(last))
    assert await store.get(last.user_id) == last


async def test_a_refused_change_leaves_no_event(harness: Harness, store: AccountStore, last: Account) -> None:
    events = [a_cause(last), a_cause(last)]
    with pytest.raises(LastModerator):
        await store.apply(last.user_id, DEMOTE, events[0])
    with pytest.raises(LastModerator):
        await store.apply(last.user_id, Delete(last.credential_id), events[1])
    assert not [event for event in events if str(event.event_id) in harness.raw_text()]


async def test_force_lets_the_last_moderator_go(store: AccountStore, last: Account, moderators: list[Account]) -> None:
    demoted = await store.apply(last.user_id, RevokeRole(Role.MODERATOR), a_cause(last), force=True)
    assert demoted.roles == {Role.VIEWER}
    suspended = await store.get(moderators[1].user_id)
    assert suspended
    await store.apply(
        suspended.user_id, DEMOTE, a_cause(suspended)
    )  # not active before either, so the rule doesn't apply
    await store.apply(last.user_id, AssignRole(Role.MODERATOR), a_cause(last))
    await store.apply(last.user_id, Delete(last.credential_id), a_cause(last), force=True)
    assert await store.get(last.user_id) is None


async def test_everybody_but_the_last_moderator_can_be_removed(
    store: AccountStore, last: Account, moderators: list[Account]
) -> None:
    """Suspended moderators and other accounts are not protected."""
    _, suspended, demoted = moderators
    await store.apply(suspended.user_id, SUSPEND, a_cause(suspended))
    assert (await store.apply(suspended.user_id, DEMOTE, a_cause(suspended))).roles == {Role.VIEWER}
    await store.apply(last.user_id, RevokeRole(Role.CREATOR), a_cause(last))
    await store.apply(demoted.user_id, SUSPEND, a_cause(demoted))
    await store.apply(demoted.user_id, Delete(demoted.credential_id), a_cause(demoted))
    await store.apply(suspended.user_id, Delete(suspended.credential_id), a_cause(suspended))


async def test_a_reinstated_moderator_counts_again(
    store: AccountStore, last: Account, moderators: list[Account]
) -> None:
    await store.apply(moderators[1].user_id, SetStatus(AccountStatus.ACTIVE), a_cause(moderators[1]))
    assert (await store.apply(last.user_id, DEMOTE, a_cause(last))).roles == {Role.VIEWER}
    with pytest.raises(LastModerator):
        await store.apply(moderators[1].user_id, DEMOTE, a_cause(moderators[1]))


async def test_a_suspended_account_that_is_promoted_does_not_count(
    store: AccountStore, last: Account, moderators: list[Account]
) -> None:
    await store.apply(moderators[2].user_id, SUSPEND, a_cause(moderators[2]))
    await store.apply(moderators[2].user_id, AssignRole(Role.MODERATOR), a_cause(moderators[2]))
    with pytest.raises(LastModerator):
        await store.apply(last.user_id, DEMOTE, a_cause(last))


async def test_a_database_without_moderators_changes_freely(store: AccountStore, account: Account) -> None:
    await store.apply(account.user_id, DEMOTE, a_cause(account))
    await store.apply(account.user_id, SUSPEND, a_cause(account))
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))


@pytest.mark.parametrize(
    ("count", "change", "undo"),
    [(2, DEMOTE, AssignRole(Role.MODERATOR)), (3, SUSPEND, SetStatus(AccountStatus.ACTIVE))],
    ids=["two demote", "three suspend"],
)
async def test_of_moderators_who_remove_each_other_one_is_left(
    stores: list[AccountStore], moderators: list[Account], count: int, change: Change, undo: Change
) -> None:
    await asyncio.gather(
        *(stores[0].apply(moderator.user_id, DEMOTE, a_cause(moderator)) for moderator in moderators[count:])
    )
    for _ in range(2):
        outcomes = await asyncio.gather(
            *(
                stores[n % 2].apply(moderator.user_id, change, a_cause(moderator))
                for n, moderator in enumerate(moderators[:count])
            ),
            return_exceptions=True,
        )
        found = await stores[0].get_many([moderator.user_id for moderator in moderators])
        assert [account.is_active_moderator for account in found.values()].count(True) == 1
        assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [LastModerator]
        for moderator in moderators[:count]:
            await stores[0].apply(moderator.user_id, undo, a_cause(moderator))


async def test_of_moderators_who_delete_their_accounts_at_once_one_is_left(
    stores: list[AccountStore], moderators: list[Account]
) -> None:
    outcomes = await asyncio.gather(
        *(
            store.apply(m.user_id, Delete(m.credential_id), a_cause(m))
            for store, m in zip(stores, moderators, strict=False)
        ),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [LastModerator]
    assert len(await stores[0].get_many([m.user_id for m in moderators])) == 1
