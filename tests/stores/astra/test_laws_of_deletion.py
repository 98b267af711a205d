"""Law 9 of the account document (docs/accounts.md), tested where it can break."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from killrvideo_grpc.domain.account import Account, now
from killrvideo_grpc.domain.changes import (
    Action,
    Change,
    OpenSession,
    Rename,
    RenewHash,
)
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, StoreUnavailable, UserNotFound
from killrvideo_grpc.stores.astra.account_updates import SETTLING
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.document import document_id
from killrvideo_grpc.stores.astra.repair import Repairs
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import USERS
from tests.stores.astra.conftest import OpenStore
from tests.stores.astra.contents import Contents
from tests.stores.astra.crashes import cut_off
from tests.stores.test_store_contract import CHANGES
from tests.support.accounts import HASH, a_new_password, a_session, an_account, an_event
from tests.support.fake_data_api import FakeDataApi

pytestmark = pytest.mark.anyio


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
    server: FakeDataApi,
    open_store: OpenStore,
    account: Account,
    contents: Contents,
    change: Callable[[Account], Change],
    crashes: bool,
) -> None:
    writer, survivor = open_store(), open_store()
    await writer.delete(account, an_event(account, Action.DELETED))
    await writer._background.finish()
    tombstone = contents.existing(account)
    with cut_off(server, 1 if crashes else 99, is_lost=False), pytest.raises((UserNotFound, StoreUnavailable)):
        await writer.apply(account, change(account))
    await writer._background.finish()
    if crashes:
        await survivor.sweep()
    ignored = {"version": 0, "outbox": {}, "successors": {}, "pending": "another mark"}
    assert contents.existing(account)["pending"]
    assert contents.existing(account) | ignored == tombstone | ignored
    assert contents.row(account) is None
    assert "planted" not in contents.everything().lower()


async def test_a_tombstone_contains_nothing_personal(store: AstraStore, account: Account, contents: Contents) -> None:
    await store.apply(account, OpenSession(a_session(account)))
    await store.delete(account, event := an_event(account, Action.DELETED))
    await Repairs(store._api).sweep(now() + SETTLING + timedelta(seconds=1))
    tombstone = contents.existing(account)
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
    store: AstraStore, account: Account, contents: Contents
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
        assert contents.row(account) is None
        assert contents.existing(account)["sessions"] == {}
        heir = an_account(account.email)
        await store.register(heir, HASH, an_event(heir))
        await store.delete(heir, an_event(heir, Action.DELETED))
    assert contents.existing(account)["pending"]
    await repairs.sweep(now() + timedelta(minutes=6))
    assert not contents.existing(account).keys() & {"pending", "claim"}


async def test_the_repair_frees_an_address_that_a_deleted_account_claimed_late(
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
