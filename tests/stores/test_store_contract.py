"""What every AccountStore promises of accounts (domain/ports.py), on each store in tests/stores/harness.py."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, normal_email
from killrvideo_grpc.domain.changes import (
    AssignRole,
    Change,
    ChangeEmail,
    ChangePassword,
    Delete,
    EndSessions,
    RehashPassword,
    Rename,
    RequestReset,
    RevokeRole,
    SetStatus,
    Unblock,
)
from killrvideo_grpc.domain.errors import (
    EmailAlreadyRegistered,
    InvalidResetCode,
    RefreshTokenInvalid,
    UserNotFound,
)
from killrvideo_grpc.domain.ports import AccountStore
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
    imported,
    opening,
    refreshing,
)

pytestmark = pytest.mark.anyio

# One change of each kind.
CHANGES: list[Callable[[Account], Change]] = [
    lambda account: Rename("Bea", None),
    opening,
    lambda account: refreshing(a_session()),
    lambda account: EndSessions(frozenset({uuid4().hex})),
    lambda account: RehashPassword(account.credential_id, OTHER_HASH),
    a_new_password,
    lambda account: AssignRole(Role.CREATOR),
    lambda account: RevokeRole(Role.CREATOR),
    lambda account: SetStatus(AccountStatus.SUSPENDED),
    lambda account: a_reset_request(),
    lambda account: a_reset(),
    a_new_address,
    lambda account: Unblock(),
]

# Those that have an effect on a new account and are recorded.
RECORDED = (ChangePassword, AssignRole, SetStatus, RequestReset, ChangeEmail, Unblock)


async def test_reads_what_was_registered(store: AccountStore, account: Account) -> None:
    assert await store.get(account.user_id) == account
    assert await store.get_many([account.user_id]) == {account.user_id: account}
    assert await store.get_credentials(account.user_id) == Credentials(account, HASH)
    assert await store.find_credentials(account.email) == Credentials(account, HASH)


async def test_all_stores_on_the_database_see_a_new_account(stores: list[AccountStore], account: Account) -> None:
    assert [await store.get(account.user_id) for store in stores] == [account] * len(stores)


@pytest.mark.parametrize("name", ["Å", "李", "a\u0000b", "🙂" * 50, "O'Brien; DROP TABLE users", '"$set"', "שלום"])
async def test_keeps_names_to_the_letter(store: AccountStore, name: str) -> None:
    account = an_account(first_name=name, last_name=name[::-1])
    await store.register(account, HASH, a_cause(account))
    assert await store.get(account.user_id) == account


async def test_an_unknown_account_is_not_found(store: AccountStore) -> None:
    assert await store.get(uuid4()) is None
    assert await store.get_credentials(uuid4()) is None
    assert await store.find_credentials(an_address()) is None


@pytest.mark.parametrize("change", CHANGES)
async def test_an_unknown_account_cannot_be_changed(store: AccountStore, change: Callable[[Account], Change]) -> None:
    account = an_account()
    with pytest.raises(UserNotFound):
        await store.apply(account.user_id, change(account), a_cause(account))
    with pytest.raises(UserNotFound):
        await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    assert await store.get(account.user_id) is None


async def test_all_spellings_of_an_address_are_one_address(store: AccountStore) -> None:
    account, other = an_account(f"  Bob.{uuid4().hex}@EXAMPLE.org".upper()), an_account()
    await store.register(account, HASH, a_cause(account))
    for spelling in [normal_email(account.email), f"\u3000{account.email.lower()}\t", account.email]:
        assert await store.find_credentials(spelling) == Credentials(account, HASH)
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(replace(other, email=account.email.swapcase()), HASH, a_cause(other))


async def test_a_taken_address_changes_nothing(store: AccountStore, account: Account) -> None:
    other = an_account(account.email, first_name="Mallory")
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(other, OTHER_HASH, a_cause(other))
    assert await store.get(other.user_id) is None
    assert await store.find_credentials(account.email) == Credentials(account, HASH)


async def test_one_of_many_registrations_of_an_address_wins(stores: list[AccountStore]) -> None:
    address = an_address()
    claims = [an_account(address) for _ in range(8)]
    registered = await asyncio.gather(
        *(stores[n % 4].register(claim, HASH, a_cause(claim)) for n, claim in enumerate(claims)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in registered if outcome] == [EmailAlreadyRegistered] * 7
    winner = claims[registered.index(None)]
    assert await stores[0].find_credentials(address) == Credentials(winner, HASH)
    assert await stores[0].get_many([claim.user_id for claim in claims]) == {winner.user_id: winner}


async def test_a_read_of_a_hundred_accounts_leaves_out_the_missing(store: AccountStore) -> None:
    accounts = [an_account() for _ in range(52)]  # more than a page of a Data API
    await imported(store, accounts)
    accounts[0] = await store.apply(accounts[0].user_id, opening(accounts[0]), a_cause(accounts[0]))
    deleted = accounts.pop()
    await store.apply(deleted.user_id, Delete(deleted.credential_id), a_cause(deleted))
    missing = [deleted.user_id, *(uuid4() for _ in range(48))]
    found = await store.get_many([*missing, *(account.user_id for account in accounts)])
    assert found == {account.user_id: account for account in accounts}
    assert await store.get_many([]) == {}


async def test_rename_writes_what_is_given(store: AccountStore, account: Account) -> None:
    renamed = await store.apply(account.user_id, Rename("Bea", None), a_cause(account))
    assert renamed == replace(account, first_name="Bea")
    assert await store.get(account.user_id) == renamed
    assert await store.apply(account.user_id, Rename("Cleo", "Ray"), a_cause(account)) == replace(
        account, first_name="Cleo", last_name="Ray"
    )
    assert await store.apply(account.user_id, Rename(None, "Roy"), a_cause(account)) == replace(
        account, first_name="Cleo", last_name="Roy"
    )
    assert (await store.apply(account.user_id, Rename(None, None), a_cause(account))).first_name == "Cleo"


async def test_rename_keeps_what_others_changed_since(stores: list[AccountStore], account: Account) -> None:
    await stores[1].apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account))
    changed = await stores[2].apply(account.user_id, opening(account), a_cause(account))
    assert await stores[3].apply(account.user_id, Rename("Bea", None), a_cause(account)) == replace(
        changed, first_name="Bea"
    )


async def test_roles_come_and_go(store: AccountStore, account: Account) -> None:
    for _ in range(2):  # the second time changes nothing
        changed = await store.apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account))
        assert changed == replace(account, roles=frozenset({Role.VIEWER, Role.CREATOR}))
    for _ in range(2):
        changed = await store.apply(account.user_id, RevokeRole(Role.VIEWER), a_cause(account))
        assert changed == replace(account, roles=frozenset({Role.CREATOR}))
    changed = await store.apply(account.user_id, RevokeRole(Role.CREATOR), a_cause(account))
    assert await store.get(account.user_id) == changed == replace(account, roles=frozenset())


async def test_changes_made_at_once_all_take_effect(stores: list[AccountStore], account: Account) -> None:
    session = a_session()
    changes: list[Change] = [
        AssignRole(Role.CREATOR),
        RevokeRole(Role.VIEWER),
        Rename("Bea", None),
        Rename(None, "Ray"),
        opening(account, session),
        RehashPassword(account.credential_id, OTHER_HASH),
        EndSessions(frozenset({uuid4().hex})),
    ]
    await asyncio.gather(
        *(stores[n % 4].apply(account.user_id, change, a_cause(account)) for n, change in enumerate(changes))
    )
    changed = replace(
        account,
        roles=frozenset({Role.CREATOR}),
        first_name="Bea",
        last_name="Ray",
        sessions={session.session_id: session},
        last_login_date=session.created_date,
    )
    assert await stores[0].get_credentials(account.user_id) == Credentials(changed, OTHER_HASH)


async def test_an_account_is_suspended_and_reinstated(store: AccountStore, account: Account) -> None:
    suspended = replace(account, status=AccountStatus.SUSPENDED)
    for _ in range(2):
        assert await store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), a_cause(account)) == suspended
    assert await store.get(account.user_id) == suspended
    assert await store.apply(account.user_id, SetStatus(AccountStatus.ACTIVE), a_cause(account)) == account


async def test_a_hash_is_renewed_while_its_password_is_current(store: AccountStore, account: Account) -> None:
    await store.apply(account.user_id, RehashPassword(account.credential_id, OTHER_HASH), a_cause(account))
    assert await store.find_credentials(account.email) == Credentials(account, OTHER_HASH)
    await store.apply(account.user_id, RehashPassword(uuid4().hex, "$2b$06$lost"), a_cause(account))
    assert await store.find_credentials(account.email) == Credentials(account, OTHER_HASH)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_stored_with_its_event(harness: Harness, change: Callable[[Account], Change]) -> None:
    store, account = harness.open(), an_account()
    events = [a_cause(account), a_cause(account, reason="because", request_id=uuid4().hex)]
    await store.register(account, HASH, events[0])
    with suppress(RefreshTokenInvalid, InvalidResetCode):  # there is no session or code yet
        await store.apply(account.user_id, change(account), events[1])
    await store.close()
    store = harness.open()
    await store.sweep()
    recorded = {event.event_id for event in (await store.events(account.user_id, 10)).items}
    await store.close()
    # The others have no effect on this account, or are not recorded.
    happened = events if isinstance(change(account), RECORDED) else events[:1]
    assert recorded == {event.event_id for event in happened}
    assert (events[1].request_id in harness.raw_text()) == (events[1] in happened)


@pytest.mark.parametrize("seconds", [0, 0.0005, 0.002, 0.005])
async def test_a_cancelled_call_happens_as_a_whole_or_not_at_all(
    harness: Harness, account: Account, seconds: float
) -> None:
    store, other, cause = harness.open(), an_account(), a_cause(account)
    for call in (
        store.apply(account.user_id, AssignRole(Role.CREATOR), cause),
        store.register(other, HASH, a_cause(other)),
    ):
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await call
    await store.close()
    store = harness.open()
    await store.sweep()
    found = await store.get(account.user_id)
    assert found
    is_recorded = cause.event_id in {event.event_id for event in (await store.events(account.user_id, 10)).items}
    assert found == replace(account, roles=account.roles | {Role.CREATOR} if is_recorded else account.roles)
    if await store.find_credentials(other.email) != Credentials(other, HASH):
        another = an_account(other.email)
        await store.register(another, HASH, a_cause(another))  # nobody owns the address
    await store.close()


async def test_ping_and_sweep_change_no_account(store: AccountStore, account: Account) -> None:
    await store.ping()
    await store.sweep()
    assert await store.get(account.user_id) == account
