"""Throttling with a fake clock: windows, limits, bursts, callers that hang up, and known sources."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.errors import Overloaded, StoreUnavailable, TooManyAttempts
from killrvideo_grpc.domain.ports import SLOTS, AttemptCounter
from killrvideo_grpc.security.keys import keyed_digest
from killrvideo_grpc.service.keyed_semaphore import MAX_WAITING
from killrvideo_grpc.service.password_attempt import PasswordAttempt
from killrvideo_grpc.service.throttle import Limits, Throttle
from tests.support.accounts import an_account
from tests.support.settings import KEY

pytestmark = pytest.mark.anyio

LIMITS = Limits(account_and_source=3, source=6, account=8, registrations=5)
AT_ONCE = 2
BEGINNING = 900 * 2_000_000.0  # a time when windows of both lengths begin


class Counters:
    """Implements `AttemptCounters` in memory, and counts the requests."""

    def __init__(self) -> None:
        self.counts = Counter[AttemptCounter]()
        self.reads = self.writes = 0
        self.is_away = False
        self.third_write, self.sixth_write = asyncio.Event(), asyncio.Event()

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        self.reads += 1
        return [self.counts[counter] for counter in counters]

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable
        self.writes += 1
        if self.writes == 3:
            self.third_write.set()
        if self.writes == 6:
            self.sixth_write.set()
        self.counts.update(counters)
        return [self.counts[counter] for counter in counters]


class Process:
    """The throttling of one process."""

    def __init__(self, counters: Counters, limits: Limits = LIMITS) -> None:
        self.time = BEGINNING
        self.throttle = Throttle(counters, keyed_digest(KEY, "throttle"), limits, AT_ONCE, clock=lambda: self.time)
        self.checks = 0
        self.unblocked: datetime | None = None  # of every account, as the store has it
        self.begins = asyncio.Event()

    async def fail(self, account: str, source: str | None, *, is_known: bool = False) -> None:
        """Make a failing attempt. Raise TooManyAttempts."""
        assert not await self.guess(account, source, is_known=is_known)

    async def guess(self, account: str, source: str | None, *, is_known: bool = False, is_right: bool = False) -> bool:
        attempt = PasswordAttempt(self.throttle, account, source)
        await attempt.load()
        return await attempt.verify(
            lambda on_start: self._check(on_start, is_right), is_known=is_known, unblocked=self.unblocked
        )

    async def _check(self, on_start: Callable[[], None], is_right: bool) -> bool:
        on_start()
        self.checks += 1
        self.begins.set()
        await asyncio.sleep(0)
        return is_right


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def process(counters: Counters) -> Process:
    return Process(counters)


async def refused(process: Process, account: str, source: str | None, *, is_known: bool = False) -> int:
    """Assert that an attempt is refused without a check, and return when it may be repeated."""
    checks = process.checks
    with pytest.raises(TooManyAttempts) as caught:
        await process.guess(account, source, is_known=is_known)
    assert process.checks == checks
    return caught.value.retry_after


async def test_guesses_at_an_account_from_one_source_are_limited(process: Process) -> None:
    for _ in range(3):
        await process.fail("ann", "s1")
    await refused(process, "ann", "s1")
    await process.fail("ann", "s2")
    await process.fail("bob", "s1")


async def test_failures_from_one_source_are_limited_over_all_accounts(process: Process) -> None:
    for number in range(6):
        await process.fail(f"account {number}", "s1")
    await refused(process, "another", "s1")
    await process.fail("another", "s2")
    # Others at the same address must not lock somebody out who has logged in from there.
    assert await process.guess("another", "s1", is_known=True, is_right=True)


async def test_guesses_at_an_account_are_limited_over_all_sources(process: Process) -> None:
    for number in range(8):
        await process.fail("ann", f"s{number}")
    await refused(process, "ann", "another")
    assert await process.guess("ann", "home", is_known=True, is_right=True)
    await process.fail("bob", "another")


async def test_guesses_from_a_known_source_are_limited_too(process: Process) -> None:
    for _ in range(3):
        await process.fail("ann", "home", is_known=True)
    await refused(process, "ann", "home", is_known=True)


async def test_without_a_source_only_the_limit_per_account_applies(process: Process) -> None:
    for _ in range(8):
        await process.fail("ann", None)
    await refused(process, "ann", None, is_known=True)
    for number in range(20):
        await process.fail(f"account {number}", None)


async def test_failures_from_elsewhere_do_not_block_a_known_service_without_a_source(process: Process) -> None:
    for number in range(8):
        await process.fail("ann", f"s{number}")
    assert await process.guess("ann", None, is_known=True, is_right=True)


async def test_attempts_without_an_account_are_limited_per_source(process: Process) -> None:
    for _ in range(6):
        await process.throttle.count_forged_token("s1")
    with pytest.raises(TooManyAttempts):
        await process.throttle.count_forged_token("s1")
    for _ in range(7):
        await process.throttle.count_forged_token(None)


async def test_a_block_ends_with_its_window_and_is_not_prolonged(process: Process) -> None:
    process.time = BEGINNING + 100.5
    for _ in range(3):
        await process.fail("ann", "s1")
    assert await refused(process, "ann", "s1") == 800
    process.time = BEGINNING + 899.9
    for _ in range(10):
        assert await refused(process, "ann", "s1") == 1
    process.time = BEGINNING + 900
    await process.fail("ann", "s1")


@pytest.mark.parametrize("sources", [["s1"], [f"s{n}" for n in range(8)]], ids=["one source", "many sources"])
async def test_an_unblocked_account_is_counted_anew_within_ten_seconds(counters: Counters, sources: list[str]) -> None:
    processes = [Process(counters, replace(LIMITS, source=0)) for _ in range(2)]
    process = processes[0]
    most = LIMITS.account_and_source if len(sources) == 1 else LIMITS.account
    for number in range(most):
        await process.fail("ann", sources[number % len(sources)])
    for each in processes:
        await refused(each, "ann", sources[0] if len(sources) == 1 else "another")
    source = "s1" if len(sources) == 1 else "another"
    for each in processes:
        each.unblocked = datetime.fromtimestamp(BEGINNING + 0.5, UTC)
        each.time += 10
        assert await each.guess("ann", source, is_right=True)
    for _ in range(LIMITS.account_and_source):
        await process.fail("ann", source)
    for each in processes:
        await refused(each, "ann", source)
        each.unblocked = datetime.fromtimestamp(each.time, UTC)  # once more
        each.time += 10
        assert await each.guess("ann", source, is_right=True)


async def test_unblocking_one_account_helps_no_other(process: Process) -> None:
    for _ in range(3):
        await process.fail("ann", "s1")
    await process.fail("bob", "s1")
    process.time += 10
    process.unblocked = datetime.fromtimestamp(process.time, UTC)
    await process.fail("ann", "s1")
    process.unblocked = None
    await process.fail("bob", "s1")
    await refused(process, "bob", "s1")  # the source has failed too often


async def test_a_past_unblocking_does_not_matter(process: Process, counters: Counters) -> None:
    process.unblocked = datetime.fromtimestamp(BEGINNING - 1, UTC)
    for _ in range(3):
        await process.fail("ann", "s1")
    await refused(process, "ann", "s1")
    assert counters.reads == 3  # one for each attempt


async def test_a_flood_at_a_blocked_account_asks_the_store_now_and_then(process: Process, counters: Counters) -> None:
    for _ in range(3):
        await process.fail("ann", "s1")
    before = counters.reads
    for _ in range(100):
        await refused(process, "ann", "s1")
        process.time += 1
    assert before < counters.reads <= before + 20


async def test_all_processes_count_together(counters: Counters) -> None:
    processes = [Process(counters) for _ in range(3)]
    for process in processes:
        await process.fail("ann", "s1")
    for process in processes:
        await refused(process, "ann", "s1")


async def test_a_flood_does_not_reach_the_store(process: Process, counters: Counters) -> None:
    for _ in range(3):
        await process.fail("ann", "s1")
    before = (counters.reads, counters.writes)
    for _ in range(100):
        await refused(process, "ann", "s1")
    assert (counters.reads, counters.writes) == before


async def test_successful_attempts_are_never_counted(process: Process, counters: Counters) -> None:
    assert all(await asyncio.gather(*(process.guess("ann", "s1", is_right=True) for _ in range(64))))
    assert counters.writes == 0


@pytest.mark.parametrize("sources", [1, 50])
async def test_a_burst_exceeds_a_limit_by_no_more_than_the_concurrent_guesses(counters: Counters, sources: int) -> None:
    processes = [Process(counters) for _ in range(2)]
    guesses = [processes[n % 2].guess("ann", f"s{n % sources}") for n in range(200)]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {bool, TooManyAttempts}
    most = LIMITS.account_and_source if sources == 1 else LIMITS.account
    assert most <= sum(process.checks for process in processes) <= most + 2 * AT_ONCE


async def test_a_flood_from_one_source_leaves_room_for_others(process: Process) -> None:
    flood = [process.guess(f"nobody {n}", "s1", is_right=True) for n in range(2 * MAX_WAITING)]
    flooding = asyncio.gather(*flood, return_exceptions=True)
    await asyncio.sleep(0)
    others = await asyncio.gather(*(process.guess("ann", "s2", is_right=True) for _ in range(8)))
    assert all(others)
    assert Overloaded in map(type, await flooding)


async def test_beyond_a_bound_of_waiting_attempts_overloaded_is_raised(process: Process) -> None:
    guesses = [process.guess("ann", "s1", is_right=True) for _ in range(MAX_WAITING + AT_ONCE + 10)]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert Counter(map(type, outcomes)) == {bool: MAX_WAITING + AT_ONCE, Overloaded: 10}


async def test_a_guess_counts_even_if_its_caller_hangs_up(process: Process, counters: Counters) -> None:
    for _ in range(3):
        process.begins.clear()
        guess = asyncio.create_task(process.guess("ann", "s1"))
        await process.begins.wait()
        guess.cancel()
        with pytest.raises(asyncio.CancelledError):
            await guess
    async with asyncio.timeout(10):
        await counters.third_write.wait()
    await refused(process, "ann", "s1")


async def test_a_wrong_token_counts_even_if_its_caller_hangs_up(process: Process, counters: Counters) -> None:
    for _ in range(6):
        hit = asyncio.create_task(process.throttle.count_forged_token("s1"))
        await asyncio.sleep(0)  # let it begin
        hit.cancel()
        await asyncio.wait([hit])
    async with asyncio.timeout(10):
        await counters.sixth_write.wait()
    with pytest.raises(TooManyAttempts):
        await process.throttle.count_forged_token("s1")


async def test_a_caller_who_hangs_up_while_waiting_is_not_counted(process: Process, counters: Counters) -> None:
    release = asyncio.Event()

    async def wait(on_start: Callable[[], None]) -> bool:
        await release.wait()
        return False

    attempts = [PasswordAttempt(process.throttle, "ann", "s1") for _ in range(5)]
    guesses = [asyncio.create_task(attempt.verify(wait, is_known=False)) for attempt in attempts]
    await asyncio.sleep(0)
    for guess in guesses:
        guess.cancel()
    await asyncio.wait(guesses)
    release.set()
    await asyncio.sleep(0)
    assert counters.writes == 0
    assert await process.guess("ann", "s1", is_right=True)  # it has a permit


async def test_a_wrong_guess_that_cannot_be_counted_is_unavailable(process: Process, counters: Counters) -> None:
    counters.is_away = True
    with pytest.raises(StoreUnavailable):
        await process.guess("ann", "s1")
    assert await process.guess("ann", "s1", is_right=True)


async def test_disabled_limits_never_ask_the_store(counters: Counters) -> None:
    process = Process(counters, Limits(0, 0, 0, 0))
    for _ in range(100):
        await process.fail("ann", "s1")
        await process.throttle.count_registration("s1")
    assert (counters.reads, counters.writes) == (0, 0)


async def test_registrations_have_a_window_of_an_hour(process: Process) -> None:
    process.time = BEGINNING + 1800
    for _ in range(5):
        await process.throttle.count_registration("s1")
    with pytest.raises(TooManyAttempts) as caught:
        process.throttle.check_registration("s1")
    assert caught.value.retry_after == 1800
    with pytest.raises(TooManyAttempts):
        await process.throttle.count_registration("s1")
    process.throttle.check_registration("s2")
    process.throttle.check_registration(None)
    await process.fail("ann", "s1")
    process.time = BEGINNING + 3600
    await process.throttle.count_registration("s1")


async def test_of_registrations_at_once_exactly_the_limit_is_accepted(counters: Counters) -> None:
    processes = [Process(counters) for _ in range(2)]
    outcomes = await asyncio.gather(
        *(processes[n % 2].throttle.count_registration("s1") for n in range(40)), return_exceptions=True
    )
    assert outcomes.count(None) == 5


async def test_counters_are_spread_over_the_slots(process: Process, counters: Counters) -> None:
    for number in range(500):
        await process.fail(f"account {number}", f"s{number}")
        await process.throttle.count_registration(f"s{number}")
    assert {0 <= counter.slot < SLOTS for counter in counters.counts} == {True}
    assert len(counters.counts) > 1950  # the slots are used evenly


async def test_nobody_without_the_key_knows_the_slots_of_a_source(counters: Counters) -> None:
    for key in (KEY, KEY + "x"):
        throttle = Throttle(counters, keyed_digest(key, "throttle"), LIMITS, AT_ONCE)
        await throttle.count_forged_token("s1")
    assert len({counter.slot for counter in counters.counts}) == 2


def test_a_source_is_known_for_thirty_days(process: Process) -> None:
    throttle, account = process.throttle, an_account()
    digest = throttle.source_digest(account, "s1")
    assert len(digest) == 32
    for days, is_known in ((0, True), (29, True), (31, False)):
        seen = replace(account, sources={digest: now() - timedelta(days=days)})
        assert throttle.is_known_source(seen, "s1") is is_known
        assert not throttle.is_known_source(seen, "s2")
        assert not throttle.is_known_source(seen, None)
    assert throttle.source_digest(an_account(), "s1") != digest  # so sources don't link accounts


def test_a_source_is_known_under_every_key(counters: Counters) -> None:
    old, new, other = (keyed_digest(key, "throttle") for key in (KEY, KEY + "x", KEY + "y"))
    before = Throttle(counters, old, LIMITS, AT_ONCE)
    after = Throttle(counters, new, LIMITS, AT_ONCE, former_digests=[other, old])
    account = an_account()
    for throttle in (before, after):
        seen = replace(account, sources={throttle.source_digest(account, "s1"): now()})
        assert after.is_known_source(seen, "s1")
        assert not after.is_known_source(seen, "s2")
        assert before.is_known_source(seen, "s1") is (throttle is before)
    assert after.source_digest(account, "s1") != before.source_digest(account, "s1")
    forgotten = replace(account, sources={before.source_digest(account, "s1"): now() - timedelta(days=31)})
    assert not after.is_known_source(forgotten, "s1")
