"""What every AccountStore promises of imports and exports."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, now
from killrvideo_grpc.domain.changes import AssignRole, Delete, Rename, RevokeRole
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, LastModerator
from killrvideo_grpc.domain.events import Action, Cause
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.domain.search import Query
from tests.support.accounts import HASH, OTHER_HASH, a_cause, an_account, opening

pytestmark = pytest.mark.anyio

OLD = datetime(2019, 3, 4, 5, 6, 7, 89000, UTC)


def imported(account: Account, password_hash: str = HASH, before: str = "") -> ImportedAccount:
    return ImportedAccount.of(Credentials(account, password_hash), Cause("cli:ann"), before)


async def exported(store: AccountStore, *accounts: Account) -> list[Credentials]:
    """Return these accounts as an export gives them, sorted by id."""
    wanted = {account.user_id for account in accounts}
    found = [each async for page in store.all_credentials() for each in page if each.account.user_id in wanted]
    return sorted(found, key=lambda each: each.account.user_id)


async def test_an_imported_account_keeps_everything_and_can_be_found(store: AccountStore) -> None:
    word = f"m{uuid4().hex[:12]}"
    account = an_account(
        f"{word.upper()}@example.org",
        created_date=OLD,
        last_login_date=OLD + timedelta(days=1),
        status=AccountStatus.SUSPENDED,
        roles=frozenset(Role),
    )
    assert await store.import_accounts([imported(account, before="inactive")]) == [ImportOutcome.IMPORTED]
    assert await store.get_credentials(account.user_id) == Credentials(account, HASH)
    assert await store.find_credentials(account.email.lower()) == Credentials(account, HASH)
    assert list((await store.search(Query.parse(word), 20)).items) == [account]
    (event,) = (await store.events(account.user_id, 20)).items
    assert (event.action, event.actor, event.before) == (Action.IMPORTED, "cli:ann", "inactive")
    assert event.after == "viewer,creator,moderator"
    assert await exported(store, account) == [Credentials(account, HASH)]


async def test_what_exists_is_left_as_it_is(store: AccountStore, account: Account) -> None:
    other = an_account()
    assert await store.import_accounts([imported(other)]) == [ImportOutcome.IMPORTED]
    renamed = await store.apply(other.user_id, Rename("Bea", None), a_cause(other))
    for seen in (renamed, account):
        again = replace(seen, first_name="Mallory", email=f"{uuid4().hex}@example.org")
        assert await store.import_accounts([imported(again, OTHER_HASH)]) == [ImportOutcome.EXISTS]
        assert await store.get_credentials(seen.user_id) == Credentials(seen, HASH)
        assert await store.find_credentials(again.email) is None
        assert len((await store.events(seen.user_id, 20)).items) == 1


async def test_a_deleted_account_does_not_come_back(store: AccountStore, account: Account) -> None:
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    assert await store.import_accounts([imported(account)]) == [ImportOutcome.DELETED]
    assert await store.get(account.user_id) is None
    assert await exported(store, account) == []


async def test_an_address_that_is_owned_is_not_taken_over(store: AccountStore, account: Account) -> None:
    other = an_account(account.email.upper())
    assert await store.import_accounts([imported(other)]) == [ImportOutcome.EMAIL_TAKEN]
    assert await store.get(other.user_id) is None
    assert await store.find_credentials(account.email) == Credentials(account, HASH)
    nameless = replace(other, email="")
    assert await store.import_accounts([imported(nameless, "")]) == [ImportOutcome.IMPORTED]
    assert await store.get(other.user_id) == nameless


async def test_the_address_of_a_deleted_account_is_free(store: AccountStore, account: Account) -> None:
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    heir = an_account(account.email)
    assert await store.import_accounts([imported(heir)]) == [ImportOutcome.IMPORTED]
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


async def test_an_account_without_an_address_shows_its_names_only(store: AccountStore) -> None:
    word = f"m{uuid4().hex[:12]}"
    accounts = [an_account(first_name=word, created_date=OLD) for _ in range(2)]
    accounts = [replace(account, email="") for account in accounts]
    assert await store.import_accounts([imported(each, "") for each in accounts]) == [ImportOutcome.IMPORTED] * 2
    assert await store.find_credentials("") is None
    assert await store.get_many([each.user_id for each in accounts]) == {each.user_id: each for each in accounts}
    found = (await store.search(Query.parse(word), 20)).items
    assert sorted(each.user_id for each in found) == sorted(each.user_id for each in accounts)
    await store.sweep()
    assert await store.get(accounts[0].user_id) == accounts[0]
    await store.apply(accounts[0].user_id, Delete(accounts[0].credential_id), a_cause(accounts[0]))
    assert await store.get(accounts[0].user_id) is None


async def test_an_account_without_an_address_is_no_moderator(store: AccountStore, moderators: list[Account]) -> None:
    nameless = replace(an_account(), email="")
    await store.import_accounts([imported(nameless, "")])
    await store.apply(nameless.user_id, AssignRole(Role.MODERATOR), a_cause(nameless))
    for moderator in moderators[:2]:
        await store.apply(moderator.user_id, RevokeRole(Role.MODERATOR), a_cause(moderator))
    with pytest.raises(LastModerator):
        await store.apply(moderators[2].user_id, RevokeRole(Role.MODERATOR), a_cause(moderators[2]))


async def test_an_imported_moderator_counts(store: AccountStore, moderators: list[Account]) -> None:
    account = an_account(roles=frozenset({Role.VIEWER, Role.MODERATOR}))
    await store.import_accounts([imported(account)])
    for moderator in moderators:
        await store.apply(moderator.user_id, RevokeRole(Role.MODERATOR), a_cause(moderator))
    with pytest.raises(LastModerator):
        await store.apply(account.user_id, RevokeRole(Role.MODERATOR), a_cause(account))
    await store.apply(account.user_id, RevokeRole(Role.MODERATOR), a_cause(account), force=True)


async def test_a_dry_run_foresees_and_writes_nothing(store: AccountStore, account: Account) -> None:
    new, taken = an_account(), an_account(account.email)
    gone = an_account()
    await store.register(gone, HASH, a_cause(gone))
    await store.apply(gone.user_id, Delete(gone.credential_id), a_cause(gone))
    batch = [imported(each) for each in (new, taken, account, gone, replace(an_account(), email=""))]
    outcomes = await store.import_accounts(batch, dry_run=True)
    assert outcomes == [
        ImportOutcome.IMPORTED,
        ImportOutcome.EMAIL_TAKEN,
        ImportOutcome.EXISTS,
        ImportOutcome.DELETED,
        ImportOutcome.IMPORTED,
    ]
    assert await store.get(new.user_id) is None
    assert await store.find_credentials(new.email) is None
    assert await store.import_accounts(batch) == outcomes
    assert await store.import_accounts([], dry_run=True) == await store.import_accounts([]) == []


async def test_four_imports_of_the_same_accounts_at_once(stores: list[AccountStore]) -> None:
    accounts = [an_account() for _ in range(4)]
    runs = await asyncio.gather(*(store.import_accounts([imported(each) for each in accounts]) for store in stores))
    for account, outcomes in zip(accounts, zip(*runs, strict=True), strict=True):
        assert sorted(outcome.name for outcome in outcomes) == ["EXISTS"] * 3 + ["IMPORTED"]
        assert await stores[0].find_credentials(account.email) == Credentials(account, HASH)
        assert len((await stores[1].events(account.user_id, 20)).items) == 1


async def test_a_registration_and_an_import_of_one_address_at_once(stores: list[AccountStore]) -> None:
    for _ in range(2):
        registering = an_account()
        importing = an_account(registering.email)
        is_registered, (outcome,) = await asyncio.gather(
            succeeds(stores[0].register(registering, HASH, a_cause(registering))),
            stores[1].import_accounts([imported(importing)]),
        )
        assert outcome is (ImportOutcome.EMAIL_TAKEN if is_registered else ImportOutcome.IMPORTED)
        owner = registering if is_registered else importing
        assert await stores[2].find_credentials(registering.email) == Credentials(owner, HASH)
        if is_registered:
            assert await stores[2].get(importing.user_id) is None


async def test_an_export_has_every_account_once(store: AccountStore) -> None:
    accounts = [an_account(created_date=now() - timedelta(days=number)) for number in range(26)]
    await store.import_accounts([imported(each) for each in accounts])  # with their claims, more than a page
    accounts[0] = await store.apply(accounts[0].user_id, opening(accounts[0]), a_cause(accounts[0]))
    found = await exported(store, *accounts)
    expected = sorted(accounts, key=lambda account: account.user_id)
    assert [bare(each.account) for each in found] == [bare(account) for account in expected]
    assert {each.password_hash for each in found} == {HASH}


async def succeeds(registration: Awaitable[None]) -> bool:
    try:
        await registration
    except EmailAlreadyRegistered:
        return False
    return True


def bare(account: Account) -> Account:
    return replace(account, sessions={}, sources={})
