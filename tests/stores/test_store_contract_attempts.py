"""What every AccountStore promises of counters of attempts, and of the sources of logins."""

import asyncio
import random
from datetime import timedelta

import pytest

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import MAX_SOURCES, SOURCE_KNOWN_FOR, Delete
from killrvideo_grpc.domain.ports import SLOTS, AccountStore, AttemptCounter
from tests.stores.harness import Harness
from tests.support.accounts import a_cause, a_session, opening

pytestmark = pytest.mark.anyio

WINDOW = 1_990_000  # of 15 minutes, in 2026
_slots = random.sample(range(SLOTS), 100)  # of which each test takes some that no other takes


def some_counters(count: int, window: int = WINDOW) -> list[AttemptCounter]:
    return [AttemptCounter(_slots.pop(), window) for _ in range(count)]


async def test_attempts_are_counted_for_all_processes(stores: list[AccountStore]) -> None:
    counters = some_counters(3)
    assert await stores[0].read_attempts(counters) == [0, 0, 0]
    assert await stores[0].count_attempt(counters) == [1, 1, 1]
    assert await stores[1].count_attempt(counters[1:]) == [2, 2]
    assert await stores[2].count_attempt(counters[2:]) == [3]
    for store in stores:
        assert await store.read_attempts(counters) == [1, 2, 3]
    assert await stores[0].read_attempts(counters[::-1]) == [3, 2, 1]


async def test_every_slot_counts_by_itself(store: AccountStore) -> None:
    counters = [AttemptCounter(slot, WINDOW) for slot in (0, 1, 511, 512, SLOTS - 1)]
    for _ in range(2):
        await store.count_attempt(counters[:1])
    assert (await store.read_attempts(counters))[1:] == [0, 0, 0, 0]
    await store.count_attempt(counters[1:])
    assert await store.read_attempts(counters) == [2, 1, 1, 1, 1]


async def test_attempts_at_once_are_all_counted(stores: list[AccountStore]) -> None:
    counters = some_counters(3)
    counts = await asyncio.gather(*(stores[number % 4].count_attempt(counters) for number in range(12)))
    for position in range(3):
        assert sorted(count[position] for count in counts) == list(range(1, 13))
    assert await stores[0].read_attempts(counters) == [12, 12, 12]


async def test_the_next_window_begins_at_zero(store: AccountStore) -> None:
    (counter,) = some_counters(1)
    following = counter._replace(window=WINDOW + 1)
    for _ in range(3):
        await store.count_attempt([counter])
    assert await store.read_attempts([following]) == [0]
    assert await store.count_attempt([following]) == [1]
    assert await store.count_attempt([following]) == [2]
    much_later = counter._replace(window=WINDOW + 1000)
    assert await store.count_attempt([much_later]) == [1]


async def test_many_processes_begin_a_new_window_only_once(stores: list[AccountStore]) -> None:
    (counter,) = some_counters(1)
    await stores[0].count_attempt([counter])
    following = [counter._replace(window=WINDOW + 1)]
    counts = await asyncio.gather(*(stores[number % 4].count_attempt(following) for number in range(8)))
    assert sorted(count for (count,) in counts) == list(range(1, 9))


async def test_attempts_by_a_clock_that_is_behind_count_in_the_current_window(store: AccountStore) -> None:
    (ahead,) = some_counters(1, WINDOW + 1)
    behind = ahead._replace(window=WINDOW)
    await store.count_attempt([ahead])
    assert await store.count_attempt([behind]) == [2]
    assert await store.read_attempts([behind]) == [2]
    assert await store.read_attempts([ahead]) == [2]


async def test_a_counter_from_a_clock_far_ahead_is_replaced(store: AccountStore) -> None:
    (wrong,) = some_counters(1, WINDOW + 1_000_000)
    right = wrong._replace(window=WINDOW)
    for _ in range(3):
        await store.count_attempt([wrong])
    assert await store.read_attempts([right]) == [0]
    assert await store.count_attempt([right]) == [1]
    assert await store.count_attempt([right]) == [2]


async def test_a_sweep_ignores_counters_of_attempts(store: AccountStore, account: Account) -> None:
    await store.count_attempt(some_counters(3))
    await store.sweep()
    assert await store.get(account.user_id) == account


async def test_a_login_is_remembered_with_its_source(store: AccountStore, account: Account) -> None:
    first, second, again = [a_session(created_date=account.created_date + timedelta(days=day)) for day in (1, 2, 3)]
    for session, source in ((first, "0a" * 16), (second, "1b" * 16), (again, "1b" * 16)):
        await store.apply(account.user_id, opening(account, session, source=source), a_cause(account))
    opened = await store.apply(account.user_id, opening(account), a_cause(account))  # by a caller without a source
    assert opened.sources == {"0a" * 16: first.created_date, "1b" * 16: again.created_date}
    assert await store.get(account.user_id) == opened


async def test_sources_are_forgotten_after_a_month_and_beyond_the_limit(store: AccountStore, account: Account) -> None:
    at = account.created_date
    logins = [(f"{n:032x}", a_session(created_date=at + timedelta(hours=n))) for n in range(MAX_SOURCES + 2)]
    for source, session in logins:
        await store.apply(account.user_id, opening(account, session, source=source), a_cause(account))
    found = await store.get(account.user_id)
    assert found
    assert list(found.sources) == [source for source, _ in logins[2:]]
    late = a_session(created_date=at + timedelta(hours=4) + SOURCE_KNOWN_FOR)
    opened = await store.apply(account.user_id, opening(account, late, source="new"), a_cause(account))
    assert set(opened.sources) == {"new", *(source for source, _ in logins[5:])}


async def test_logins_at_once_are_all_remembered(stores: list[AccountStore], account: Account) -> None:
    sources = [f"{number:032x}" for number in range(8)]
    await asyncio.gather(
        *(
            stores[n % 4].apply(account.user_id, opening(account, a_session(), source=each), a_cause(account))
            for n, each in enumerate(sources)
        )
    )
    found = await stores[0].get(account.user_id)
    assert found
    assert found.sources.keys() == set(sources)


async def test_a_deleted_account_leaves_no_source(harness: Harness, store: AccountStore, account: Account) -> None:
    source = "feedfacedeadbeef" * 2
    opened = await store.apply(account.user_id, opening(account, a_session(), source=source), a_cause(account))
    assert source in harness.raw_text()
    await store.apply(opened.user_id, Delete(opened.credential_id), a_cause(account))
    assert source not in harness.raw_text()
