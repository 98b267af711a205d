"""A crash after each request of a call: answered calls last, others are completed or have no effect."""

from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, now
from killrvideo_grpc.domain.changes import AssignRole, Delete, EndSessions, Rename, RevokeRole, SetStatus
from killrvideo_grpc.domain.errors import InvalidCredentials
from killrvideo_grpc.stores.astra.store import AstraStore
from tests.stores.astra.conftest import OpenStore, Prepared, written
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import crash, crashing_within
from tests.support.accounts import HASH, OTHER_HASH, a_cause, a_new_password, a_session, an_account, opening, registered
from tests.support.fake_data_api import FakeDataApi, Snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def account_and_snapshot(prepared: Prepared) -> tuple[Account, Snapshot]:
    """An account with an open session, and what was written for it."""

    async def write(store: AstraStore) -> Account:
        account = await registered(store)
        return await store.apply(account.user_id, opening(account), a_cause(account))

    return written(prepared, write)


@crashing_within(8)
async def test_register(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore, contents: Contents, steps: int, is_lost: bool
) -> None:
    account, other = an_account("Planted@example.org"), an_account("planted@example.org")
    event = a_cause(account)
    answered = await crash(server, store, lambda: store.register(account, HASH, event), steps, is_lost=is_lost)
    survivor = open_store()
    found = await survivor.find_credentials(account.email)
    assert found in ([Credentials(account, HASH)] if answered else [None, Credentials(account, HASH)])
    await survivor.sweep()
    if found:
        assert (contents.row(account) or {})["email"] == account.email
        assert contents.has_event(event)
        assert contents.pending() == []
        await survivor.apply(found.account.user_id, Delete(found.account.credential_id), a_cause(account))
    else:
        assert contents.row(account) is None
        assert not contents.has_event(event)
    # Whatever the crash left behind, the address is free, and an hour later nothing remains.
    await survivor.register(other, HASH, a_cause(other))
    assert await survivor.find_credentials(account.email) == Credentials(other, HASH)
    await survivor.finish()
    await survivor.repair(now() + timedelta(hours=2))
    assert found or contents.document(account) is None
    await survivor.apply(other.user_id, Delete(other.credential_id), a_cause(other))


@crashing_within(3)
async def test_login(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    session = a_session(created_date=now() + timedelta(seconds=1))
    login = opening(account, session)
    answered = await crash(
        server, store, lambda: store.apply(account.user_id, login, a_cause(account)), steps, is_lost=is_lost
    )
    survivor = open_store()
    found = await survivor.get(account.user_id)
    assert found
    assert session.session_id in found.sessions or not answered
    assert (found.last_login_date == session.created_date) == (session.session_id in found.sessions)
    await finished(survivor, contents)
    row = contents.row(account) or {}
    assert datetime.fromisoformat(row["last_login_date"]) == found.last_login_date


@crashing_within(6)
async def test_change_password(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    change = a_new_password(account)
    session = change.session
    event = a_cause(account)
    answered = await crash(server, store, lambda: store.apply(account.user_id, change, event), steps, is_lost=is_lost)
    survivor = open_store()
    found = await survivor.find_credentials(account.email)
    assert found
    changed = found.password_hash == OTHER_HASH
    assert changed or not answered
    assert found.account.sessions == ({session.session_id: session} if changed else account.sessions)
    await finished(survivor, contents)
    assert contents.has_event(event) == changed


@crashing_within(3)
async def test_a_new_password_that_comes_too_late(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    accepted, event = a_new_password(account), a_cause(account)
    await store.apply(account.user_id, accepted, event)
    late, late_event = a_new_password(account, "late"), a_cause(account)
    with suppress(InvalidCredentials):
        assert not await crash(
            server, store, lambda: store.apply(account.user_id, late, late_event), steps, is_lost=is_lost
        )
    survivor = open_store()
    found = await survivor.find_credentials(account.email)
    assert found
    assert (found.password_hash, set(found.account.sessions)) == (OTHER_HASH, {accepted.session.session_id})
    await finished(survivor, contents)
    assert (contents.has_event(event), contents.has_event(late_event)) == (True, False)
    assert "late" not in contents.everything()


@crashing_within(3)
async def test_rename(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    answered = await crash(
        server,
        store,
        lambda: store.apply(account.user_id, Rename("Bea", "Ray"), a_cause(account)),
        steps,
        is_lost=is_lost,
    )
    survivor = open_store()
    found = await survivor.get(account.user_id)
    assert found
    assert (found.first_name, found.last_name) in ([("Bea", "Ray")] if answered else [("Bea", "Ray"), ("Ann", "Lee")])
    await finished(survivor, contents)
    row = contents.row(account) or {}
    assert (row["firstname"], row["lastname"]) == (found.first_name, found.last_name)


@crashing_within(9)
async def test_delete(
    server: FakeDataApi, open_store: OpenStore, store: AstraStore, contents: Contents, steps: int, is_lost: bool
) -> None:
    account = an_account(f"Planted.{uuid4().hex}@example.org", first_name="Plantedfirst", last_name="Plantedlast")
    session = a_session(user_agent="plantedagent")
    await store.register(account, "$2b$04$planted", a_cause(account))
    await store.apply(account.user_id, opening(account, session), a_cause(account))
    await store.finish()
    event = a_cause(account)
    answered = await crash(
        server,
        store,
        lambda: store.apply(account.user_id, Delete(account.credential_id), event),
        steps,
        is_lost=is_lost,
    )
    survivor = open_store()
    left = await survivor.get(account.user_id)
    await finished(survivor, contents)
    if left:
        assert not answered
        assert await survivor.find_credentials(account.email)
        assert (contents.row(account) or {})["firstname"] == "Plantedfirst"
        await survivor.apply(account.user_id, Delete(account.credential_id), event)
        await survivor.finish()
    assert contents.row(account) is None
    assert contents.has_event(event)
    assert "planted" not in contents.everything().lower()
    heir = an_account(account.email)
    await survivor.register(heir, HASH, a_cause(heir))
    await survivor.apply(heir.user_id, Delete(heir.credential_id), a_cause(heir))


@crashing_within(6)
async def test_promote_and_demote(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    other = await registered(store)
    await store.apply(other.user_id, AssignRole(Role.MODERATOR), a_cause(other))
    for change in (AssignRole(Role.MODERATOR), RevokeRole(Role.MODERATOR)):
        await store.finish()
        before = (await open_store().get(account.user_id) or account).roles
        answered = await crash(
            server, store, partial(store.apply, account.user_id, change, a_cause(account)), steps, is_lost=is_lost
        )
        assert contents.index() <= contents.moderators()
        assert contents.moderators() >= {str(other.user_id)}
        survivor = open_store()
        found = await survivor.get(account.user_id)
        assert found
        assert found.roles != before or not answered
        await survivor.sweep()
        await survivor.repair()
        assert contents.index() == contents.moderators()
        # So that the other change begins where it should.
        await survivor.apply(account.user_id, AssignRole(Role.MODERATOR), a_cause(account))
        await survivor.finish()


@crashing_within(6)
async def test_what_moderators_change(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    change, undo = SetStatus(AccountStatus.SUSPENDED), SetStatus(AccountStatus.ACTIVE)
    event = a_cause(account)
    answered = await crash(server, store, lambda: store.apply(account.user_id, change, event), steps, is_lost=is_lost)
    survivor = open_store()
    found = await survivor.get(account.user_id)
    assert found
    happened = change.decide(found, event).account == found
    assert happened or not answered
    # Both at once and after the work is finished.
    for _ in range(2):
        told = [each for each in (await survivor.events(account.user_id, 10)).items if each.event_id == event.event_id]
        assert [(each.before, each.after) for each in told] == ([("active", "suspended")] if happened else [])
        await finished(survivor, contents)
    assert contents.has_event(event) == happened
    # The crashed process's unfinished work is no obstacle to further changes.
    await survivor.apply(account.user_id, change, a_cause(account))
    undone = await survivor.apply(account.user_id, undo, a_cause(account))
    assert undo.decide(undone, event).account == undone
    await survivor.finish()
    assert len((await survivor.events(account.user_id, 10)).items) == 3


@crashing_within(6)
async def test_the_end_of_a_session(
    server: FakeDataApi,
    open_store: OpenStore,
    store: AstraStore,
    account: Account,
    contents: Contents,
    steps: int,
    is_lost: bool,
) -> None:
    change, event = EndSessions(frozenset(account.sessions)), a_cause(account)
    answered = await crash(server, store, lambda: store.apply(account.user_id, change, event), steps, is_lost=is_lost)
    survivor = open_store()
    found = await survivor.get(account.user_id)
    assert found
    assert not found.sessions or not answered
    await finished(survivor, contents)
    assert contents.has_event(event) == (not found.sessions)
    again = a_cause(account)
    await survivor.apply(account.user_id, change, again)
    await survivor.finish()
    assert contents.has_event(again) == bool(found.sessions)
    assert contents.existing(account)["sessions"] == {}


async def finished(survivor: AstraStore, contents: Contents) -> None:
    """Sweep, and check that nothing remains to be done."""
    await survivor.sweep()
    assert contents.pending() == []
