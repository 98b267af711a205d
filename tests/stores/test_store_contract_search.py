"""What every AccountStore promises of searches."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import Delete, Rename
from killrvideo_grpc.domain.errors import UserNotFound
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.domain.search import Query
from tests.stores.harness import Harness
from tests.support.accounts import a_cause, an_account, imported, registered

pytestmark = pytest.mark.anyio


async def settled(harness: Harness, *stores: AccountStore) -> AccountStore:
    """Close the stores, which finishes their background work, and open another one."""
    for store in stores:
        await store.close()
    store = harness.open()
    await store.sweep()
    return store


async def walk(store: AccountStore, text: str, size: int = 20) -> AsyncIterator[Account]:
    start = ""
    while True:
        page = await store.search(Query.parse(text), size, start)
        assert len(page.items) <= size
        for account in page.items:
            yield account
        if not (start := page.next):
            return


async def found(store: AccountStore, text: str, size: int = 20) -> list[UUID]:
    return [account.user_id async for account in walk(store, text, size)]


@pytest.fixture
def mark() -> str:
    """A word that occurs only in this test's accounts."""
    return f"m{uuid4().hex[:12]}"


async def test_words_are_found_as_people_see_and_type_them(harness: Harness, mark: str) -> None:
    writer = harness.open()
    # A soft hyphen, a typographic apostrophe, and vowel signs, which Unicode doesn't count as letters.
    hindi = "\u0939\u093f\u0928\u094d\u0926\u0940"
    account = await registered(writer, f"{mark}@x.org", first_name=f"A\u00adnn {hindi}", last_name="O\u2019Brien")
    store = await settled(harness, writer)
    for word in (
        "ann",
        "o'brien",
        "O\u2019Brien",
        "obrien",
        "O\u02bcBRI",
        "o\uff40brien",
        "o\u2032b\ufe0fr",
        "brien",
        hindi[:3],
        hindi,
    ):
        assert await found(store, f"{mark} {word}") == [account.user_id]
    for word in (hindi[2], hindi[4]):
        assert await found(store, f"{mark} {word}") == []
    await store.close()


async def test_a_dotless_i_is_an_i_in_either_case(harness: Harness, mark: str) -> None:
    writer = harness.open()
    account = await registered(writer, f"{mark}@x.org", first_name="I\u015eIK", last_name="\u0130pek")
    store = await settled(harness, writer)
    for word in ("\u0131\u015f\u0131k", "i\u015fik", "ISIK", "ipek", "\u0131pek"):
        assert await found(store, f"{mark} {word}") == [account.user_id]
    await store.close()


async def test_every_word_of_the_query_begins_a_word_of_the_account(harness: Harness, mark: str) -> None:
    writer = harness.open()
    bob = await registered(writer, f"Bob.Smith-{mark}@Mail.Example.org", first_name="Robért", last_name="Van den Bérg")
    zoe = await registered(
        writer, f"{mark}+zoe@other.org", first_name="Zoë", last_name="\uff33\uff2d\uff29\uff34\uff28"
    )
    store = await settled(harness, writer)
    both = [bob, zoe]
    expected: dict[str, list[Account]] = {
        mark: both,
        f"{mark} smith": both,
        f"{mark} SMI bob": [bob],
        f"bob.smith-{mark}@mail.example.org": [bob],
        f"  bob.smith-{mark}@ma\u3000 ": [bob],
        f"{mark}@mail.exa": [bob],
        f"{mark} mail.ex": [bob],
        f"{mark} ROBERT berg": [bob],
        f"{mark} \uff56\uff41\uff4e Bé": [bob],
        f"{mark} zoe": [zoe],
        f"{mark} obert": [],
        f"{mark} robert zoe": [],
        f"{mark} @mail": [],
        f"{mark} robertx": [],
        f"{mark}x": [],
        f"{mark} %": [],
    }
    assert {text: set(await found(store, text)) for text in expected} == {
        text: {account.user_id for account in accounts} for text, accounts in expected.items()
    }
    await store.close()


async def test_words_longer_than_what_is_indexed_are_compared_to_their_end(harness: Harness) -> None:
    writer, long = harness.open(), uuid4().hex * 2
    first, second = [await registered(writer, f"{long}{end}@example.org") for end in ("one", "two")]
    store = await settled(harness, writer)
    assert set(await found(store, long, 1)) == {first.user_id, second.user_id}
    assert await found(store, f"{long}tw") == [second.user_id]
    await store.close()


async def test_following_all_pages_returns_everybody_once(harness: Harness, mark: str) -> None:
    writer = harness.open()
    accounts = [an_account(f"{mark}.{number}@example.org") for number in range(52)]  # more than a page of a Data API
    await imported(writer, accounts)
    store = await settled(harness, writer)
    for size in (7, 50, 100):
        ids = await found(store, mark, size)
        assert len(ids) == len(set(ids))
        assert set(ids) == {account.user_id for account in accounts}
    await store.close()


async def test_registrations_meanwhile_do_not_disturb_the_pages(harness: Harness, mark: str) -> None:
    writer = harness.open()
    there = {(await registered(writer, f"{mark}.{number}@example.org")).user_id for number in range(15)}
    store, ids = await settled(harness, writer), list[UUID]()
    async for account in walk(store, mark, 4):
        ids.append(account.user_id)
        if len(ids) % 5 == 0:
            new = await registered(store, f"{mark}.late{len(ids)}@example.org")
            await store.apply(new.user_id, Delete(new.credential_id), a_cause(new))
            await registered(store, f"{mark}.later{len(ids)}@example.org")
    assert len(ids) == len(set(ids))
    assert there <= set(ids)
    await store.close()


async def test_an_empty_query_returns_everybody(harness: Harness, account: Account) -> None:
    writer = harness.open()
    other = await registered(writer)
    store = await settled(harness, writer)
    ids = await found(store, " ", 100)
    assert len(ids) == len(set(ids))
    assert {other.user_id, account.user_id} <= set(ids)
    await store.close()


async def test_results_are_what_the_accounts_are_now(harness: Harness, mark: str) -> None:
    writer = harness.open()
    renamed = await registered(writer, f"{mark}.a@example.org", first_name="Before")
    deleted = await registered(writer, f"{mark}.b@example.org")
    store = await settled(harness, writer)
    await store.apply(renamed.user_id, Rename("After", None), a_cause(renamed))
    assert await found(store, f"{mark} before") == []
    await store.apply(deleted.user_id, Delete(deleted.credential_id), a_cause(deleted))
    with suppress(UserNotFound):
        await store.apply(deleted.user_id, Rename("Planted", None), a_cause(deleted))
    expected = [replace(renamed, first_name="After")]
    assert [account async for account in walk(store, mark)] == expected
    later = await settled(harness, store)
    assert [account async for account in walk(later, f"{mark} aft")] == expected
    await later.close()


async def test_a_search_can_be_cancelled(store: AccountStore, account: Account) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.search(Query.parse(""), 20)
    assert await store.get(account.user_id) == account
