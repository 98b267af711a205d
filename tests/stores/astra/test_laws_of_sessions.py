"""Laws 5 to 7 of the account document (docs/accounts.md), each tested where it can break."""

from dataclasses import replace
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, now
from killrvideo_grpc.domain.changes import (
    Action,
    ChangePassword,
    EndSessions,
    OpenSession,
    RefreshSession,
    RenewHash,
)
from killrvideo_grpc.domain.errors import InvalidCredentials
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNTS
from tests.stores.astra.conftest import sent
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import cut_off
from tests.support.accounts import HASH, OTHER_HASH, a_new_password, a_session, an_event
from tests.support.fake_data_api import FakeDataApi

pytestmark = pytest.mark.anyio


# 5. A session counts only if it names the current credential.


async def test_a_session_of_an_older_password_is_dead(store: AstraStore, account: Account) -> None:
    late, new = a_session(account), a_session(account, credential_id=uuid4().hex)
    await store.apply(account, ChangePassword(account.credential_id, OTHER_HASH, new))
    found = await store.apply(account, OpenSession(late))
    assert (dict(found.sessions), found.dead_sessions) == ({new.session_id: new}, frozenset({late.session_id}))


async def test_a_new_password_removes_the_older_ones_and_their_sessions(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.apply(account, OpenSession(a_session(account)))
    await store.apply(account, first := a_new_password(account))
    refused = a_new_password(account, "refused")
    with pytest.raises(InvalidCredentials):
        await store.apply(account, refused, an_event(account, Action.PASSWORD_CHANGED))
    changed = replace(account, credential_id=first.session.credential_id)
    await store.apply(changed, second := a_new_password(changed))
    await store._background.finish()
    document = contents.existing(account)
    assert document["credential"] == f"000000003:{second.session.credential_id}"
    assert document["hashes"] == {second.session.credential_id: OTHER_HASH}
    assert document["sessions"].keys() == {second.session.session_id}
    assert (document["successors"], document["outbox"]) == ({}, {})


async def test_a_hash_renewed_for_an_older_password_is_removed(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    await store.apply(account, change := a_new_password(account))
    await store._background.finish()
    await store.apply(account, RenewHash(account.credential_id, HASH))
    await store._background.finish()
    assert contents.existing(account)["hashes"] == {change.session.credential_id: OTHER_HASH}


async def test_late_projections_bring_no_older_password_back(
    store: AstraStore, account: Account, contents: Contents
) -> None:
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
    assert contents.existing(account)["hashes"] == {account.credential_id: "$2b$04$number2"}


async def test_renewing_a_hash_marks_the_account_as_pending(
    server: FakeDataApi, store: AstraStore, account: Account, contents: Contents
) -> None:
    with cut_off(server, 1, is_lost=False):  # so that nothing clears the mark
        await store.apply(account, RenewHash(account.credential_id, OTHER_HASH))
        await store._background.finish()
    assert contents.existing(account)["pending"]
    assert await store.sweep() == 1


async def test_a_refresh_of_an_ended_session_leaves_only_a_dead_one(
    store: AstraStore, account: Account, contents: Contents
) -> None:
    session, next_one = a_session(account), a_session(account)
    await store.apply(account, OpenSession(session))
    await store.apply(account, EndSessions(frozenset({session.session_id})))
    await store._background.finish()
    found = await store.apply(account, RefreshSession(session.session_id, 2, now()))
    assert (dict(found.sessions), found.dead_sessions) == ({}, frozenset({session.session_id}))
    await store.apply(account, OpenSession(next_one, removed=found.dead_sessions))
    await store._background.finish()
    assert contents.existing(account)["sessions"].keys() == {next_one.session_id}


# 6. One read, without hashes, decides whether a token is good.


async def test_a_read_is_one_request_without_hashes(server: FakeDataApi, store: AstraStore, account: Account) -> None:
    await store.get(account.user_id)
    await store.get_many([account.user_id, *(uuid4() for _ in range(99))])
    assert sent(server) == [(ACCOUNTS, "findOne"), (ACCOUNTS, "find")]
    assert [request.arguments["projection"] for request in server.requests] == [{"hashes": False}] * 2


async def test_a_login_is_three_requests(server: FakeDataApi, store: AstraStore, account: Account) -> None:
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
