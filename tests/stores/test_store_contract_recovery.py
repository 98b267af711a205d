"""Reset codes, new addresses and unblocking, on each store in tests/stores/harness.py."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, now
from killrvideo_grpc.domain.changes import Change, Delete, Rename, SetStatus, Unblock
from killrvideo_grpc.domain.errors import (
    EmailAlreadyRegistered,
    InvalidCredentials,
    InvalidResetCode,
    OperatorsOnly,
    UserNotFound,
)
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.domain.search import Query
from tests.stores.harness import Harness
from tests.support.accounts import (
    HASH,
    OTHER_HASH,
    a_cause,
    a_new_address,
    a_new_password,
    a_reset,
    a_reset_request,
    a_session,
    an_account,
    an_address,
    opening,
    registered,
)

pytestmark = pytest.mark.anyio


async def apply(store: AccountStore, account: Account, change: Change) -> Account:
    return await store.apply(account.user_id, change, a_cause(account))


async def owner_of(store: AccountStore, email: str) -> Account | None:
    found = await store.find_credentials(email)
    return found.account if found else None


async def assert_free(store: AccountStore, email: str) -> None:
    """Assert that nobody logs in with an address and everybody can have it. An account has it then."""
    assert await store.find_credentials(email) is None
    await registered(store, email)


# Reset codes


@pytest.mark.parametrize("by_operator", [False, True])
async def test_a_code_is_kept_until_it_is_spent(harness: Harness, by_operator: bool) -> None:
    store = harness.open()
    account = await registered(store)
    request = a_reset_request(by_operator=by_operator)
    changed = await apply(store, account, request)
    assert changed == replace(account, reset_code=request.code)
    await store.close()
    store = harness.open()
    assert await store.get(account.user_id) == changed
    assert await store.get_many([account.user_id]) == {account.user_id: changed}
    assert await store.find_credentials(account.email) == Credentials(changed, HASH)
    changed = await apply(store, account, Rename("Bea", None))
    reset = await apply(store, account, a_reset())
    assert await store.get_credentials(account.user_id) == Credentials(reset, OTHER_HASH)
    assert reset == replace(
        changed,
        credential_id=reset.credential_id,
        reset_code=None,
        sessions=reset.sessions,
        sources=reset.sources,
        last_login_date=reset.last_login_date,
    )
    assert (len(reset.sessions), reset.credential_id != account.credential_id) == (1, True)
    await store.close()


async def test_a_code_is_spent_once(stores: list[AccountStore], account: Account) -> None:
    await apply(stores[0], account, opening(account))
    await apply(stores[0], account, a_reset_request())
    resets = [a_reset(password_hash=f"$2b$04${n:053}") for n in range(8)]
    outcomes = await asyncio.gather(
        *(apply(stores[n % 4], account, reset) for n, reset in enumerate(resets)), return_exceptions=True
    )
    (winner,) = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Account)]
    assert sum(isinstance(outcome, InvalidResetCode) for outcome in outcomes) == 7
    found = await stores[0].get_credentials(account.user_id)
    assert found
    assert found.password_hash == resets[winner].password_hash
    assert found.account.sessions.keys() == {resets[winner].session.session_id}


async def test_wrong_older_and_expired_codes_change_nothing(store: AccountStore, account: Account) -> None:
    for request, digest in (
        (None, "digest"),
        (a_reset_request(), "other"),
        (a_reset_request("newer"), "digest"),
        (a_reset_request(expires_at=now() - timedelta(milliseconds=1)), "digest"),
    ):
        before = await apply(store, account, request) if request else account
        with pytest.raises(InvalidResetCode):
            await apply(store, account, a_reset(digest))
        assert await store.get_credentials(account.user_id) == Credentials(before, HASH)


async def test_a_new_password_or_address_voids_the_code(store: AccountStore, account: Account) -> None:
    await apply(store, account, a_reset_request())
    moved = await apply(store, account, a_new_address(account))
    await apply(store, account, a_reset_request("second"))
    changed = await apply(store, account, a_new_password(account))
    for digest in ("digest", "second"):
        with pytest.raises(InvalidResetCode):
            await apply(store, account, a_reset(digest))
    assert await store.get_credentials(account.user_id) == Credentials(changed, OTHER_HASH)
    assert changed.email == moved.email


async def test_a_suspended_account_gets_the_password_alone(store: AccountStore, account: Account) -> None:
    await apply(store, account, opening(account))
    await apply(store, account, a_reset_request())
    await apply(store, account, SetStatus(AccountStatus.SUSPENDED))
    reset = await apply(store, account, a_reset())
    assert (reset.status, reset.sessions, reset.reset_code) == (AccountStatus.SUSPENDED, {}, None)
    assert await store.get_credentials(account.user_id) == Credentials(reset, OTHER_HASH)


async def test_services_make_no_codes_for_moderators(store: AccountStore, moderators: list[Account]) -> None:
    moderator = moderators[0]
    assert Role.MODERATOR in moderator.roles
    with pytest.raises(OperatorsOnly):
        await apply(store, moderator, a_reset_request(by_operator=False))
    assert await store.get(moderator.user_id) == moderator


# Unblocking


async def test_the_date_of_unblocking_is_kept(store: AccountStore, account: Account) -> None:
    cause = a_cause(account)
    changed = await store.apply(account.user_id, Unblock(), cause)
    assert changed == replace(account, unblocked_date=cause.at)
    assert await store.find_credentials(account.email) == Credentials(changed, HASH)
    assert cause.event_id in {event.event_id for event in (await store.events(account.user_id, 10)).items}


# New addresses


async def test_a_new_address_replaces_the_old_one(store: AccountStore, account: Account) -> None:
    account = await apply(store, account, opening(account))
    address = f"Moved.{an_address()}".title()
    changed = await apply(store, account, a_new_address(account, address))
    assert changed == replace(account, email=address)
    for spelling in (address, f" {address.upper()}", address.lower()):
        assert await store.find_credentials(spelling) == Credentials(changed, HASH)
    await assert_free(store, account.email)
    await store.sweep()
    assert await owner_of(store, address) == changed


async def test_a_new_address_is_found_by_search(harness: Harness, account: Account) -> None:
    store = harness.open()
    changed = await apply(store, account, a_new_address(account))
    await store.close()
    store = harness.open()
    assert (await store.search(Query.parse(changed.email), 10)).items == [changed]
    assert (await store.search(Query.parse(account.email), 10)).items == []
    await store.close()


async def test_an_address_can_be_given_up_and_taken_back(store: AccountStore, account: Account) -> None:
    for email in (an_address(), account.email):
        before = await owner_of(store, account.email) or account
        moved = await apply(store, account, a_new_address(account, email))
        assert await owner_of(store, email) == moved
        assert before.user_id == moved.user_id
    await store.sweep()
    assert await owner_of(store, account.email) == account


async def test_another_spelling_keeps_the_address(store: AccountStore, account: Account) -> None:
    spelling = account.email.upper()
    changed = await apply(store, account, a_new_address(account, spelling))
    assert changed == replace(account, email=spelling)
    assert await owner_of(store, account.email) == changed
    other = an_account(account.email)
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(other, HASH, a_cause(other))
    assert await apply(store, account, a_new_address(account, spelling)) == changed


async def test_a_taken_address_is_refused(store: AccountStore, account: Account) -> None:
    other = await registered(store)
    before = await apply(store, account, a_reset_request())
    for spelling in (other.email, f" {other.email.upper()}"):
        with pytest.raises(EmailAlreadyRegistered):
            await apply(store, account, a_new_address(account, spelling))
    assert await store.find_credentials(account.email) == Credentials(before, HASH)
    assert await owner_of(store, other.email) == other
    await apply(store, other, Delete(None))
    assert await apply(store, account, a_new_address(account, other.email))


async def test_an_older_password_changes_no_address(store: AccountStore, account: Account) -> None:
    await apply(store, account, a_new_password(account))
    address = an_address()
    with pytest.raises(InvalidCredentials):
        await apply(store, account, a_new_address(account, address))
    await assert_free(store, address)
    assert await owner_of(store, account.email)


async def test_an_address_that_was_moved_to_is_freed_by_deletion(store: AccountStore, account: Account) -> None:
    moved = await apply(store, account, a_new_address(account))
    await apply(store, account, Delete(None))
    await assert_free(store, account.email)
    await assert_free(store, moved.email)


async def test_of_many_accounts_that_want_an_address_one_gets_it(stores: list[AccountStore]) -> None:
    accounts = [await registered(stores[0]) for _ in range(4)]
    address = an_address()
    outcomes = await asyncio.gather(
        *(apply(stores[n % 2], account, a_new_address(account, address)) for n, account in enumerate(accounts)),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Account", *["EmailAlreadyRegistered"] * 3]
    for account, outcome in zip(accounts, outcomes, strict=True):
        if isinstance(outcome, Account):
            assert await owner_of(stores[1], address) == outcome
            await assert_free(stores[2], account.email)
        else:
            assert await owner_of(stores[3], account.email) == account


async def test_an_account_that_wants_many_addresses_ends_up_with_one(
    stores: list[AccountStore], account: Account
) -> None:
    addresses = [an_address() for _ in range(4)]
    outcomes = await asyncio.gather(
        *(apply(stores[n % 2], account, a_new_address(account, address)) for n, address in enumerate(addresses))
    )
    assert {outcome.email for outcome in outcomes} == set(addresses)
    found = await stores[0].get(account.user_id)
    assert found
    await stores[0].sweep()
    assert await owner_of(stores[1], found.email) == found
    for address in {account.email, *addresses} - {found.email}:
        await assert_free(stores[2], address)


@pytest.mark.parametrize("_", range(2))
async def test_of_a_registration_and_a_new_address_at_once_one_is_accepted(
    stores: list[AccountStore], account: Account, _: int
) -> None:
    address = an_address()
    newcomers = [an_account(address) for _ in range(3)]
    moved, *new = await asyncio.gather(
        apply(stores[0], account, a_new_address(account, address)),
        *(stores[n + 1].register(each, HASH, a_cause(each)) for n, each in enumerate(newcomers)),
        return_exceptions=True,
    )
    assert [moved, *new].count(None) + isinstance(moved, Account) == 1
    owner = await owner_of(stores[0], address)
    if isinstance(moved, Account):
        assert owner == moved
    else:
        assert isinstance(moved, EmailAlreadyRegistered)
        assert owner == newcomers[new.index(None)]
        assert await owner_of(stores[0], account.email) == account


@pytest.mark.parametrize("_", range(2))
async def test_a_new_address_and_a_deletion_at_once_leave_both_addresses_free(
    stores: list[AccountStore], account: Account, _: int
) -> None:
    address = an_address()
    moved, _deleted = await asyncio.gather(
        apply(stores[0], account, a_new_address(account, address)),
        apply(stores[1], account, Delete(None)),
        return_exceptions=True,
    )
    assert isinstance(moved, Account | UserNotFound)
    assert await stores[2].get(account.user_id) is None
    await stores[2].sweep()
    for each in (account.email, address):
        await assert_free(stores[2], each)


async def test_changes_at_once_with_a_new_address_all_take_effect(stores: list[AccountStore], account: Account) -> None:
    session, address = a_session(), an_address()
    await asyncio.gather(
        apply(stores[0], account, a_new_address(account, address)),
        apply(stores[1], account, opening(account, session)),
        apply(stores[2], account, Rename("Bea", None)),
        apply(stores[3], account, Unblock()),
    )
    found = await owner_of(stores[0], address)
    assert found
    assert (found.first_name, found.sessions) == ("Bea", {session.session_id: session})
    assert found.unblocked_date
