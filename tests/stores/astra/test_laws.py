"""The laws of the account document (docs/accounts.md), each tested where it can break. For crashes: test_crashes.py."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, now
from killrvideo_grpc.domain.changes import (
    Action,
    Change,
    ChangePassword,
    EndSessions,
    OpenSession,
    RefreshSession,
    Rename,
    RenewHash,
    SetStatus,
)
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, InvalidCredentials, StoreUnavailable, UserNotFound
from killrvideo_grpc.stores.account_documents import document_id, new_document
from killrvideo_grpc.stores.account_updates import SETTLING
from killrvideo_grpc.stores.astra import AstraStore
from killrvideo_grpc.stores.astra_repair import Repaired, Repairs
from killrvideo_grpc.stores.data_api import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from killrvideo_grpc.stores.email_claims import claim_id, owner_of
from tests.stores.astra.conftest import OpenStore
from tests.stores.astra.crashes import cut_off
from tests.stores.astra.held import Held
from tests.stores.test_store_contract import CHANGES
from tests.support.accounts import HASH, OTHER_HASH, a_new_password, a_session, an_account, an_event
from tests.support.data_api import Close, ErrorAnswer, Garbage, HttpStatus, StandIn, Truncate

pytestmark = pytest.mark.anyio

LOST = [
    *(Close(), Close(reset=True), Garbage(), Truncate()),
    *(HttpStatus(500), HttpStatus(503), ErrorAnswer("UNEXPECTED_DRIVER_ERROR")),
]


@pytest.fixture
async def account(store: AstraStore, server: StandIn) -> Account:
    """A registered account, with all background work done."""
    account = an_account()
    await store.register(account, HASH, an_event(account))
    await store._background.finish()
    server.forget_requests()
    return account


def sent(server: StandIn) -> list[tuple[str | None, str]]:
    return [(request.name, request.command) for request in server.requests]


# 1. The account is written before the claim.


async def test_registering_writes_the_account_and_then_the_claim(
    server: StandIn, store: AstraStore, held: Held
) -> None:
    account = an_account("Law.One@Example.org")
    await store.register(account, HASH, an_event(account))
    assert sent(server)[:3] == [(ACCOUNTS, "findOne"), (ACCOUNTS, "insertOne"), (ACCOUNTS, "insertOne")]
    written = [request.arguments["document"]["_id"] for request in server.requests[1:3]]
    assert written == [document_id(account.user_id), claim_id("law.one@example.org")]
    assert held.log(account.email) == [f"claim:{account.user_id}"]


async def test_an_address_that_is_owned_costs_one_request(server: StandIn, store: AstraStore, account: Account) -> None:
    other = an_account(account.email)
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(other, HASH, an_event(other))
    assert sent(server) == [(ACCOUNTS, "findOne")]


async def test_an_account_without_a_claim_is_none_and_is_deleted_after_an_hour(store: AstraStore, held: Held) -> None:
    orphan = an_account()
    await store._api.insert_document(new_document(orphan, HASH, an_event(orphan)))
    assert await store.find_credentials(orphan.email) is None
    assert await store.sweep() == 0
    assert held.row(orphan) is None
    repairs = Repairs(store._api)
    assert await repairs.repair(now() + timedelta(minutes=59)) == Repaired()
    assert held.document(orphan)
    assert await repairs.repair(now() + timedelta(minutes=61)) == Repaired(orphans=1)
    assert held.document(orphan) is None


# 2. A lost answer is resolved by reading.


@pytest.mark.parametrize("fault", LOST, ids=repr)
@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(4))
async def test_no_lost_answer_loses_a_registration(
    server: StandIn, store: AstraStore, held: Held, fault: Any, after_write: bool, step: int
) -> None:
    account = an_account()
    server.fail(fault, after_write=after_write, skip=step, times=1)
    await store.register(account, HASH, an_event(account))
    assert await store.find_credentials(account.email) == Credentials(account, HASH)
    assert held.log(account.email) == [f"claim:{account.user_id}"]


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
async def test_no_lost_answer_loses_a_registration_of_a_released_address(
    server: StandIn, store: AstraStore, account: Account, after_write: bool
) -> None:
    await store.delete(account, an_event(account, Action.DELETED))
    await store._background.finish()
    heir = an_account(account.email)
    server.fail(Close(), command="findOneAndUpdate", after_write=after_write, times=1)
    await store.register(heir, HASH, an_event(heir))
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


# 3. The owner of an address is the first claim after the last effective release.


@pytest.mark.parametrize(
    ("log", "owner"),
    [
        ("", None),
        ("claim:a", "a"),
        ("claim:a claim:b", "a"),
        ("claim:a claim:b release:a", None),
        ("claim:a release:b", "a"),
        ("claim:a claim:b release:b release:a claim:b claim:c", "b"),
        ("claim:a release:a release:a claim:b release:a", "b"),
    ],
)
def test_the_log_names_the_owner(log: str, owner: str | None) -> None:
    assert owner_of(log.split()) == owner


async def test_nothing_deletes_a_claim(store: AstraStore, account: Account, held: Held) -> None:
    await store.delete(account, an_event(account, Action.DELETED))
    heir = an_account(account.email)
    await store.register(heir, HASH, an_event(heir))
    await store._background.finish()
    old, new = account.user_id, heir.user_id
    assert held.log(account.email) == [f"claim:{old}", f"release:{old}", f"claim:{new}"]
    # A sweep may release an address again after another account has claimed it.
    await store._claims.release(claim_id(account.email), old)
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


async def test_a_claim_of_an_account_that_was_removed_is_freed_by_the_repair(
    store: AstraStore, account: Account
) -> None:
    heir = an_account(account.email)
    await store._api.delete_document(document_id(account.user_id))
    assert await store.find_credentials(account.email) is None
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(heir, HASH, an_event(heir))
    assert await Repairs(store._api).repair() == Repaired(claims=1)
    await store.register(heir, HASH, an_event(heir))
    assert await store.find_credentials(account.email) == Credentials(heir, HASH)


# 4. Every change is one update. Projections follow.


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_one_update_with_its_event(
    server: StandIn, store: AstraStore, account: Account, change: Callable[[Account], Change]
) -> None:
    event = an_event(account, Action.SUSPENDED)
    await store.apply(account, change(account), event)
    await store._background.finish()
    (update,) = [
        request.arguments["update"]
        for request in server.requests
        if request.command == "findOneAndUpdate" and "$inc" in request.arguments["update"]
    ]
    assert update["$inc"] == {"version": 1}
    assert {"pending", f"outbox.{event.event_id}"} <= update["$set"].keys()


async def test_a_full_history_is_shortened_and_means_the_same(store: AstraStore, account: Account, held: Held) -> None:
    key = document_id(account.user_id)
    entries = [f"{uuid4()} {what}" for _ in range(83) for what in ("+creator", "suspended", "-creator", "active")]
    entries[240] = f"{uuid4()} +creator"  # the last of the older entries, not undone by a later one
    await store._api.update_document(key, {"$set": {"history": entries[:241], "roles.newer": True}}, image="after")
    before = await store.get(account.user_id)
    assert before
    event = an_event(account, Action.SUSPENDED)
    await store.apply(before, SetStatus(AccountStatus.SUSPENDED), event)
    await store._background.finish()
    document = held.existing(account)
    assert document["history"] == [*entries[142:241], f"{event.event_id} suspended"]
    assert document["roles"]["newer"]
    assert held.has_event(event)
    after = await store.get(account.user_id)
    assert after
    assert (after.roles, after.status) == (before.roles, AccountStatus.SUSPENDED)
    assert Role.CREATOR in after.roles


async def test_a_refresh_costs_no_projection(server: StandIn, store: AstraStore, account: Account) -> None:
    await store.apply(account, RefreshSession("s", 2, now()))
    await store._background.finish()
    assert sent(server) == [(ACCOUNTS, "findOneAndUpdate")]


async def test_an_older_image_never_stays_over_a_newer_one(store: AstraStore, account: Account, held: Held) -> None:
    event = an_event(account, Action.ROLE_ASSIGNED)
    older = await store._api.find_document(document_id(account.user_id))
    assert older
    await store.apply(account, Rename("Bea", None), event)
    await store._background.finish()
    # As if a slow process projected the older state only now.
    await store._projections.project(older)
    assert (held.row(account) or {})["firstname"] == "Bea"
    assert held.pending() == []


async def test_the_repair_rewrites_an_older_image_whose_process_crashed(
    server: StandIn, store: AstraStore, account: Account, held: Held
) -> None:
    older = await store._api.find_document(document_id(account.user_id))
    assert older
    await store.apply(account, Rename("Bea", None))
    await store._background.finish()
    with cut_off(server, 1, is_lost=False), pytest.raises(StoreUnavailable):
        await store._projections.project(older)
    assert (held.row(account) or {})["firstname"] == account.first_name
    assert await Repairs(store._api).repair() == Repaired(finished=1)
    assert (held.row(account) or {})["firstname"] == "Bea"
    assert await Repairs(store._api).repair() == Repaired()


@pytest.mark.parametrize("key", ["email:odd", "account:odd", "account:00000000-0000-4000-8000-000000000001"])
async def test_the_repair_passes_over_documents_that_are_not_ours(
    store: AstraStore, account: Account, held: Held, key: str
) -> None:
    await store._api.insert_document({"_id": key, "version": 2})
    await store._api.update_document(document_id(account.user_id), {"$set": {"pending": "crashed"}}, image="after")
    repaired = await Repairs(store._api).repair()
    assert repaired.finished == 1
    assert held.pending() == []
    await store._api.delete_document(key)


async def test_the_repair_deletes_the_row_of_a_deleted_account(store: AstraStore, account: Account, held: Held) -> None:
    row = held.row(account)
    assert row
    document = await store._api.find_document(document_id(account.user_id))
    assert document
    await store.delete(account, an_event(account, Action.DELETED))
    repairs = Repairs(store._api)
    await repairs.repair(now() + 2 * SETTLING)
    # Like a request that timed out long ago and is carried out only now.
    await store._projections._write(document, None)
    assert held.row(account)
    assert await repairs.repair() == Repaired(finished=1)
    assert held.row(account) is None


async def test_an_event_that_comes_while_others_are_written_stays(
    server: StandIn, store: AstraStore, account: Account, held: Held
) -> None:
    with cut_off(server, 1, is_lost=False):
        await store.apply(account, Rename("Bea", None), first := an_event(account))
        await store._background.finish()
    image = await store._api.find_document(document_id(account.user_id))
    assert image
    with cut_off(server, 1, is_lost=False):
        await store.apply(account, Rename("Cleo", None), second := an_event(account))
        await store._background.finish()
    await store._projections.project(image)
    assert held.has_event(first)
    assert held.has_event(second)
    assert (held.row(account) or {})["firstname"] == "Cleo"
    assert held.existing(account)["outbox"] == {}


async def test_a_sweep_finishes_everything_and_says_so(
    server: StandIn, open_store: OpenStore, held: Held, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = [an_account() for _ in range(60)]  # more than a page
    crashed = open_store()
    with server.fail(Close(), command="insertOne", name=USERS):
        for account in accounts:
            await crashed.register(account, HASH, an_event(account))
        await crashed._background.finish()
    assert len(held.pending()) == len(accounts)
    survivor = open_store()
    assert await survivor.sweep() == len(accounts)
    assert held.pending() == []
    assert all(held.row(account) for account in accounts)
    assert len([line for line in capsys.readouterr().out.splitlines() if "swept" in line and "count=60" in line]) == 1
    assert await survivor.sweep() == 0
    assert "swept" not in capsys.readouterr().out


# 5. A session counts only if it names the current credential.


async def test_a_session_of_an_older_password_is_dead(store: AstraStore, account: Account) -> None:
    late, new = a_session(account), a_session(account, credential_id=uuid4().hex)
    await store.apply(account, ChangePassword(account.credential_id, OTHER_HASH, new))
    found = await store.apply(account, OpenSession(late))
    assert (dict(found.sessions), found.dead_sessions) == ({new.session_id: new}, frozenset({late.session_id}))


async def test_a_new_password_removes_the_older_ones_and_their_sessions(
    store: AstraStore, account: Account, held: Held
) -> None:
    await store.apply(account, OpenSession(a_session(account)))
    await store.apply(account, first := a_new_password(account))
    refused = a_new_password(account, "refused")
    with pytest.raises(InvalidCredentials):
        await store.apply(account, refused, an_event(account, Action.PASSWORD_CHANGED))
    changed = replace(account, credential_id=first.session.credential_id)
    await store.apply(changed, second := a_new_password(changed))
    await store._background.finish()
    document = held.existing(account)
    assert document["credential"] == f"000000003:{second.session.credential_id}"
    assert document["hashes"] == {second.session.credential_id: OTHER_HASH}
    assert document["sessions"].keys() == {second.session.session_id}
    assert (document["successors"], document["outbox"]) == ({}, {})


async def test_a_hash_renewed_for_an_older_password_is_removed(store: AstraStore, account: Account, held: Held) -> None:
    await store.apply(account, change := a_new_password(account))
    await store._background.finish()
    await store.apply(account, RenewHash(account.credential_id, HASH))
    await store._background.finish()
    assert held.existing(account)["hashes"] == {change.session.credential_id: OTHER_HASH}


async def test_clearing_up_late_brings_no_older_password_back(store: AstraStore, account: Account, held: Held) -> None:
    images = []
    for number in range(3):
        change = a_new_password(account, f"$2b$04$number{number}")
        account = await store.apply(account, change)
        image = await store._api.find_document(document_id(account.user_id))
        assert image
        images.append(image)
    for image in reversed(images):
        await store._projections.project(image)
    found = await store.get_credentials(account.user_id)
    assert found
    assert found.password_hash == "$2b$04$number2"
    assert held.existing(account)["hashes"] == {account.credential_id: "$2b$04$number2"}


async def test_a_renewed_hash_marks_its_account(
    server: StandIn, store: AstraStore, account: Account, held: Held
) -> None:
    with cut_off(server, 1, is_lost=False):  # so that nothing clears the mark
        await store.apply(account, RenewHash(account.credential_id, OTHER_HASH))
        await store._background.finish()
    assert held.existing(account)["pending"]
    assert await store.sweep() == 1


async def test_what_a_refresh_leaves_of_an_ended_session_is_dead(
    store: AstraStore, account: Account, held: Held
) -> None:
    session, next_one = a_session(account), a_session(account)
    await store.apply(account, OpenSession(session))
    await store.apply(account, EndSessions(frozenset({session.session_id})))
    await store._background.finish()
    found = await store.apply(account, RefreshSession(session.session_id, 2, now()))
    assert (dict(found.sessions), found.dead_sessions) == ({}, frozenset({session.session_id}))
    await store.apply(account, OpenSession(next_one, removed=found.dead_sessions))
    await store._background.finish()
    assert held.existing(account)["sessions"].keys() == {next_one.session_id}


# 6. One read, without hashes, decides whether a token is good.


async def test_a_read_is_one_request_without_hashes(server: StandIn, store: AstraStore, account: Account) -> None:
    await store.get(account.user_id)
    await store.get_many([account.user_id, *(uuid4() for _ in range(99))])
    assert sent(server) == [(ACCOUNTS, "findOne"), (ACCOUNTS, "find")]
    assert [request.arguments["projection"] for request in server.requests] == [{"hashes": False}] * 2


async def test_a_login_is_three_requests(server: StandIn, store: AstraStore, account: Account) -> None:
    found = await store.find_credentials(account.email)
    assert found
    await store.apply(found.account, OpenSession(a_session(account)))
    assert sent(server)[:3] == [(ACCOUNTS, "findOne"), (ACCOUNTS, "findOne"), (ACCOUNTS, "findOneAndUpdate")]


# 7. The generation of a refresh token never decreases.


async def test_a_late_refresh_never_lowers_the_generation(store: AstraStore, account: Account) -> None:
    session = a_session(account)
    await store.apply(account, OpenSession(session))
    for generation in (2, 3, 2):
        found = await store.apply(account, RefreshSession(session.session_id, generation, now()))
    assert found.sessions[session.session_id].generation == 3


# 9. A deleted account is a tombstone without personal data.

PLANTED: list[Callable[[Account], Change]] = [
    lambda account: Rename("Planted", "Planted"),
    lambda account: OpenSession(a_session(account, user_agent="planted")),
    lambda account: RenewHash(account.credential_id, "planted"),
    lambda account: a_new_password(account, "planted", user_agent="planted"),
    *CHANGES[-3:],
]


@pytest.mark.parametrize("change", PLANTED)
@pytest.mark.parametrize("crashes", [False, True])
async def test_what_is_written_to_a_deleted_account_is_erased(
    server: StandIn,
    open_store: OpenStore,
    account: Account,
    held: Held,
    change: Callable[[Account], Change],
    crashes: bool,
) -> None:
    writer, survivor = open_store(), open_store()
    await writer.delete(account, an_event(account, Action.DELETED))
    await writer._background.finish()
    tombstone = held.existing(account)
    with cut_off(server, 1 if crashes else 99, is_lost=False), pytest.raises((UserNotFound, StoreUnavailable)):
        await writer.apply(account, change(account))
    await writer._background.finish()
    if crashes:
        await survivor.sweep()
    ignored = {"version": 0, "outbox": {}, "successors": {}, "pending": "another mark"}
    assert held.existing(account)["pending"]
    assert held.existing(account) | ignored == tombstone | ignored
    assert held.row(account) is None
    assert "planted" not in held.everything().lower()


async def test_a_tombstone_has_a_status_and_dates(store: AstraStore, account: Account, held: Held) -> None:
    await store.apply(account, OpenSession(a_session(account)))
    await store.delete(account, event := an_event(account, Action.DELETED))
    await Repairs(store._api).sweep(now() + SETTLING + timedelta(seconds=1))
    tombstone = held.existing(account)
    assert tombstone.pop("version") > 1
    assert tombstone.pop("created_date")
    (deletion,) = tombstone.pop("successors")[account.credential_id]
    assert deletion.keys() == {"event", "at"}
    assert deletion["event"] == str(event.event_id)
    assert tombstone == {
        "_id": document_id(account.user_id),
        "credential": f"000000001:{account.credential_id}",
        "status": "deleted",
        **{field: {} for field in ("roles", "hashes", "sessions", "outbox")},
    }


async def test_what_a_late_request_writes_after_a_deletion_is_erased(
    store: AstraStore, account: Account, held: Held
) -> None:
    """Requests that timed out may still be carried out later: here writes of a row, a refresh and a claim."""
    row = {"userid": account.user_id, "email": account.email, "firstname": "Ann"}
    claim = {"$push": {"log": f"claim:{account.user_id}"}}
    late_refresh = {"$max": {"sessions.late.generation": 2}}
    await store.delete(account, an_event(account, Action.DELETED))
    repairs = Repairs(store._api)
    for minutes in (1, 4):
        await store._api.insert_row(USERS, row)
        await store._api.update_document(claim_id(account.email), claim, image="after")
        await store._api.update_document(document_id(account.user_id), late_refresh, image="after")
        assert await repairs.sweep(now() + timedelta(minutes=minutes)) == 0
        assert held.row(account) is None
        assert held.existing(account)["sessions"] == {}
        heir = an_account(account.email)
        await store.register(heir, HASH, an_event(heir))
        await store.delete(heir, an_event(heir, Action.DELETED))
    assert held.existing(account)["pending"]
    await repairs.sweep(now() + timedelta(minutes=6))
    assert not held.existing(account).keys() & {"pending", "claim"}


async def test_a_claim_that_a_deleted_account_has_again_is_freed_by_the_repair(
    store: AstraStore, account: Account
) -> None:
    await store.delete(account, an_event(account, Action.DELETED))
    await Repairs(store._api).sweep(now() + SETTLING + timedelta(seconds=1))
    claim = {"$push": {"log": f"claim:{account.user_id}"}}
    await store._api.update_document(claim_id(account.email), claim, image="after")
    heir = an_account(account.email)
    with pytest.raises(EmailAlreadyRegistered):
        await store.register(heir, HASH, an_event(heir))
    assert (await Repairs(store._api).repair()).claims == 1
    await store.register(heir, HASH, an_event(heir))


# 10. One condition per filter.


async def test_every_filter_has_one_condition(server: StandIn, store: AstraStore, account: Account) -> None:
    for change in CHANGES:
        account = await store.apply(account, change(account), an_event(account))
    await store.get_many([account.user_id, uuid4()])
    await store.find_credentials(account.email)
    await store.delete(account, an_event(account, Action.DELETED))
    await store.sweep()
    await store._background.finish()
    filters = [request.arguments["filter"] for request in server.requests if "filter" in request.arguments]
    assert {tuple(condition) for condition in filters} == {("_id",), ("pending",), ("userid",)}
    assert {request.name for request in server.requests} == {ACCOUNTS, USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY}
