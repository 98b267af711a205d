"""What every AccountStore promises of deleted accounts."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from killrvideo_grpc.domain.account import Account, Credentials, Role, normal_email
from killrvideo_grpc.domain.changes import AssignRole, Change, Delete, Rename, Unblock
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, InvalidCredentials, UserNotFound
from killrvideo_grpc.domain.events import Action
from killrvideo_grpc.domain.ports import AccountStore
from tests.stores.harness import Harness
from tests.stores.test_store_contract import CHANGES
from tests.support.accounts import (
    HASH,
    a_cause,
    a_new_password,
    a_reset_request,
    a_session,
    an_account,
    an_address,
    opening,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def deleted(store: AccountStore, account: Account) -> Account:
    """An account as it was before it was deleted."""
    opened = await store.apply(account.user_id, opening(account), a_cause(account))
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    return opened


async def test_a_deleted_account_is_missing(stores: list[AccountStore], deleted: Account) -> None:
    for store in stores:
        assert await store.get(deleted.user_id) is None
        assert await store.get_credentials(deleted.user_id) is None
        assert await store.get_many([deleted.user_id]) == {}
        assert await store.find_credentials(deleted.email) is None


async def test_nobody_deletes_an_account_twice(stores: list[AccountStore], account: Account) -> None:
    outcomes = await asyncio.gather(
        *(store.apply(account.user_id, Delete(account.credential_id), a_cause(account)) for store in stores),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Account", *["UserNotFound"] * 3]
    with pytest.raises(UserNotFound):
        await stores[0].apply(account.user_id, Delete(account.credential_id), a_cause(account), force=True)


async def test_a_deletion_needs_the_current_password(store: AccountStore, account: Account) -> None:
    """A call that checked the previous password must fail, however long ago that password was replaced."""
    changed = await store.apply(account.user_id, a_new_password(account), a_cause(account))
    event = a_cause(account)
    with pytest.raises(InvalidCredentials):
        await store.apply(account.user_id, Delete(account.credential_id), event)
    found = await store.get(account.user_id)
    assert found
    assert found.sessions == changed.sessions
    await store.apply(changed.user_id, Delete(changed.credential_id), event)
    assert await store.get(account.user_id) is None


async def test_a_deletion_records_the_roles_as_they_were(store: AccountStore, account: Account) -> None:
    await store.apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account))  # after the call read the account
    event = a_cause(account)
    await store.apply(account.user_id, Delete(account.credential_id), event)
    (recorded,) = [each for each in (await store.events(account.user_id, 20)).items if each.event_id == event.event_id]
    assert recorded.before == "viewer,creator"


@pytest.mark.parametrize("_", range(2))
async def test_of_a_deletion_and_a_new_password_at_once_one_is_accepted(harness: Harness, _: int) -> None:
    stores, account = [harness.open() for _ in range(4)], an_account()
    await stores[0].register(account, HASH, a_cause(account))
    deletion, change = a_cause(account), a_cause(account)
    deleted, changed = await asyncio.gather(
        stores[1].apply(account.user_id, Delete(account.credential_id), deletion),
        stores[2].apply(account.user_id, a_new_password(account), change),
        return_exceptions=True,
    )
    found = await stores[3].get(account.user_id)
    for store in stores:
        await store.close()
    store = harness.open()
    await store.sweep()
    (latest, first) = (await store.events(account.user_id, 10)).items
    await store.close()
    assert first.action is Action.REGISTERED
    if found:
        assert (type(deleted), type(changed)) == (InvalidCredentials, Account)
        assert latest.event_id == change.event_id
    else:
        assert (type(deleted), type(changed)) == (Account, UserNotFound)
        assert latest.event_id == deletion.event_id


@pytest.mark.parametrize("change", CHANGES)
async def test_a_deleted_account_cannot_be_changed(
    store: AccountStore, deleted: Account, change: Callable[[Account], Change]
) -> None:
    with pytest.raises(UserNotFound):
        await store.apply(deleted.user_id, change(deleted), a_cause(deleted))
    assert await store.get(deleted.user_id) is None


async def test_a_deleted_account_leaves_nothing_personal(harness: Harness) -> None:
    store, account = harness.open(), an_account(f"Planted.Address.{an_address()}", first_name="Plantedfirst")
    session = a_session(user_agent="plantedagent")
    await store.register(account, HASH.replace("abcdefghijk", "plantedhash"), a_cause(account))
    await store.apply(account.user_id, opening(account, session), a_cause(account))
    await store.apply(account.user_id, Rename(None, "Plantedlast"), a_cause(account))
    await store.apply(account.user_id, a_reset_request("planteddigest"), a_cause(account))
    await store.apply(account.user_id, Unblock(), a_cause(account))
    before = harness.raw_text().lower()
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    await store.close()
    after = await _swept_text(harness)
    assert str(account.user_id) in after
    planted = [account.email, "Plantedfirst", "Plantedlast", "plantedagent", "plantedhash", "planteddigest"]
    planted.append(session.session_id)
    assert [text for text in planted if text.lower() not in before] == []
    assert [text for text in planted if text.lower() in after] == []


async def test_changes_that_race_with_a_deletion_leave_nothing_personal(harness: Harness, account: Account) -> None:
    stores = [harness.open() for _ in range(4)]

    async def attempt(store: AccountStore, change: Change) -> None:
        with suppress(UserNotFound):
            await store.apply(account.user_id, change, a_cause(account))

    await asyncio.gather(
        *(attempt(store, Rename("Plantedlate", None)) for store in stores),
        *(attempt(store, opening(account, a_session(user_agent="plantedlate"))) for store in stores),
        stores[3].apply(account.user_id, Delete(account.credential_id), a_cause(account)),
        *(attempt(store, Rename(None, "Plantedlate")) for store in stores),
    )
    assert await stores[0].get(account.user_id) is None
    for store in stores:
        await store.close()
    assert "plantedlate" not in await _swept_text(harness)


async def test_one_of_many_gets_the_address_of_a_deleted_account(stores: list[AccountStore], deleted: Account) -> None:
    claims = [an_account(deleted.email.upper()) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(stores[n % 4].register(claim, HASH, a_cause(claim)) for n, claim in enumerate(claims)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome] == [EmailAlreadyRegistered] * 7
    winner = claims[outcomes.index(None)]
    assert await stores[0].find_credentials(normal_email(deleted.email)) == Credentials(winner, HASH)
    assert await stores[0].get(deleted.user_id) is None


async def test_an_address_can_change_hands_again_and_again(store: AccountStore) -> None:
    address = an_address()
    for _ in range(3):
        account = an_account(address)
        await store.register(account, HASH, a_cause(account))
        assert await store.find_credentials(address) == Credentials(account, HASH)
        await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
        assert await store.find_credentials(address) is None


async def _swept_text(harness: Harness) -> str:
    """Everything in the database, in lower case, after a sweep."""
    store = harness.open()
    await store.sweep()
    await store.close()
    return harness.raw_text().lower()
