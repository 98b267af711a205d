"""Throttling: how often somebody may fail, in a way that can't be turned on whom they fail to be.

Failed attempts are counted per account and source, per source, and per account. Accounts go by the address that was
tried, whether anyone owns it or not. The last limit stops those who guess from many sources, but not its owner: who has
logged in to the account from a source in the last 30 days is not stopped there by what comes from other sources.

Windows are fixed: a count ends with its window, and attempts that are refused don't count, so they prolong nothing.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from killrvideo_grpc.domain.account import Account, now
from killrvideo_grpc.domain.errors import TooManyAttempts
from killrvideo_grpc.domain.ports import SLOTS, AttemptCounter, AttemptCounters
from killrvideo_grpc.service.turns import Turns, Waits

WINDOW_SECONDS = 15 * 60
REGISTRATIONS_WINDOW_SECONDS = 60 * 60
KNOWN_FOR = timedelta(days=30)
MAX_SOURCES = 20  # that an account remembers; the one that was not used for the longest time gives way
# Windows of one length share slots. The others are for registrations.
ATTEMPT_SLOTS = SLOTS * 15 // 16
NO_SOURCE = ""
MAX_REMEMBERED = 10_000

T = TypeVar("T")
Check = Callable[[Callable[[], None]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many attempts may fail in 15 minutes, and how many accounts a source may register in an hour; 0: any number.

    Callers without a source, whom another service logs in, count as one source, which has the limit of the account.
    """

    account_and_source: int
    source: int
    account: int
    registrations: int


@dataclass(frozen=True, slots=True)
class _Limit:
    kind: str
    counter: AttemptCounter
    most: int
    window_seconds: int


class Throttle:
    """Counts attempts in the store, for all processes. `digest` is a keyed hash, so that nobody can aim at a slot.

    Up to `at_once` attempts of one account or source are open at once; the others wait, and what `waits` returns goes
    around their wait. So a burst exceeds a limit by no more than that, times the number of processes, and good attempts
    are never refused for being many.
    """

    def __init__(
        self,
        counters: AttemptCounters,
        digest: Callable[[str], bytes],
        limits: Limits,
        at_once: int,
        waits: Waits = nullcontext,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._counters = counters
        self._digest = digest
        self._limits = limits
        self._turns = Turns(at_once, waits)
        self._clock = clock
        # Counts that have reached a limit, by slot, so that a flood doesn't reach the store.
        self._reached: dict[int, tuple[AttemptCounter, int]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def attempt(self, account: str, source: str | None) -> "Attempt":
        """Begins an attempt to get into an account. `account` is any text that names it; empty: none in particular.

        Raises TooManyAttempts when this process knows that there were too many from here, without asking the store.
        """
        own, wide = list[_Limit](), list[_Limit]()
        if account:
            most = self._limits.account if source is None else self._limits.account_and_source
            own += self._limit("account and source", most, f"{source or NO_SOURCE}\0{account}")
            wide += self._limit("account", self._limits.account, account)
        if source is not None:
            own += self._limit("source", self._limits.source, source)
        self.refuse(own)
        return Attempt(self, own, wide)

    async def count_registration(self, source: str | None) -> None:
        """Counts one. Raises TooManyAttempts when it is one too many."""
        limits = self._registration_limits(source)
        for limit, count in zip(limits, await self.count(limits), strict=True):
            if count > limit.most:
                raise TooManyAttempts(self._seconds_left(limit))

    def refuse_registration(self, source: str | None) -> None:
        """Raises TooManyAttempts when this process knows that there were too many, without asking the store."""
        self.refuse(self._registration_limits(source))

    def knows(self, account: Account, source: str | None) -> bool:
        """Says whether somebody has logged in to the account from this source in the last 30 days."""
        at = account.sources.get(self._source_digest(account, source))
        return at is not None and now() - at < KNOWN_FOR

    def remembering(self, account: Account, source: str | None) -> tuple[str, frozenset[str]]:
        """Returns the digest of the source to remember at a login, and those to forget. It tells only this account."""
        digest = self._source_digest(account, source)
        others = sorted((at, other) for other, at in account.sources.items() if other != digest)
        kept = [other for at, other in others if now() - at < KNOWN_FOR][-(MAX_SOURCES - 1) :]
        return digest, frozenset(account.sources) - {digest, *kept}

    def refuse(self, limits: Sequence[_Limit]) -> None:
        """Raises TooManyAttempts when a limit is known to be reached."""
        reached = [limit for limit in limits if self._is_reached(limit)]
        if reached:
            raise TooManyAttempts(max(map(self._seconds_left, reached)))

    async def read(self, limits: Sequence[_Limit]) -> None:
        """Learns from the store which of the limits are reached."""
        if limits:
            self._note(limits, await self._counters.read_attempts([limit.counter for limit in limits]))

    async def count(self, limits: Sequence[_Limit]) -> Sequence[int]:
        """Counts an attempt for each of the limits, and returns the counts."""
        if not limits:
            return []
        counts = await self._counters.count_attempt([limit.counter for limit in limits])
        self._note(limits, counts)
        return counts

    def turn(self, limits: Sequence[_Limit]) -> AbstractAsyncContextManager[None]:
        """Returns a context manager that holds a place for an attempt with these limits."""
        return self._turns.of([(limit.kind, limit.counter.slot) for limit in limits])

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Starts work that may outlast its caller."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _registration_limits(self, source: str | None) -> list[_Limit]:
        return [] if source is None else self._limit("registrations", self._limits.registrations, source)

    def _limit(self, kind: str, most: int, key: str) -> list[_Limit]:
        """Returns the limit of a kind for a key; nothing where there is none."""
        if not most:
            return []
        number = int.from_bytes(self._digest(f"{kind}\0{key}")[:8])
        slot, seconds = number % ATTEMPT_SLOTS, WINDOW_SECONDS
        if kind == "registrations":
            slot, seconds = ATTEMPT_SLOTS + number % (SLOTS - ATTEMPT_SLOTS), REGISTRATIONS_WINDOW_SECONDS
        return [_Limit(kind, AttemptCounter(slot, int(self._clock() // seconds)), most, seconds)]

    def _note(self, limits: Sequence[_Limit], counts: Sequence[int]) -> None:
        for limit, count in zip(limits, counts, strict=True):
            if count >= limit.most:
                if len(self._reached) >= MAX_REMEMBERED:
                    self._reached.clear()  # the store remembers
                self._reached[limit.counter.slot] = limit.counter, count

    def _is_reached(self, limit: _Limit) -> bool:
        counter, count = self._reached.get(limit.counter.slot, (None, 0))
        return counter == limit.counter and count >= limit.most

    def _seconds_left(self, limit: _Limit) -> int:
        end = (limit.counter.window + 1) * limit.window_seconds
        return max(1, math.ceil(end - self._clock()))

    def _source_digest(self, account: Account, source: str | None) -> str:
        return self._digest(f"known source\0{account.user_id}\0{source or NO_SOURCE}")[:16].hex()


class Attempt:
    """One attempt to get into an account: `look`, then `admit` and, once it has failed, `failed`; or `guess` for both.

    `own` are the limits of whoever attempts, and `wide` that of the account, to which others add too.
    """

    def __init__(self, throttle: Throttle, own: Sequence[_Limit], wide: Sequence[_Limit]) -> None:
        self._throttle = throttle
        self._own = own
        self._all = [*own, *wide]

    async def look(self) -> None:
        """Looks how many have failed. Raises TooManyAttempts when they were too many from here.

        To be awaited beside the look-up of the account, so that it takes no time.
        """
        await self._throttle.read(self._all)
        self._throttle.refuse(self._own)

    def admit(self, *, is_known: bool) -> None:
        """Raises TooManyAttempts when too many have failed, from anywhere unless the source is known to the account."""
        self._throttle.refuse(self._own if is_known else self._all)

    async def failed(self) -> None:
        """Counts the attempt, even if the caller hangs up."""
        await asyncio.shield(self._throttle.start(self._throttle.count(self._all)))

    async def guess(self, check: Check, *, is_known: bool) -> bool:
        """Waits for a turn, then returns what `check` returns; False is counted before. Raises TooManyAttempts.

        `check` gets a function to call when it begins what tells whether the guess is right. From then on the guess is
        counted even if the caller hangs up, or guesses would cost nothing.
        """
        has_begun = False

        def begin() -> None:
            nonlocal has_begun
            has_begun = True

        guessing = self._throttle.start(self._guess(lambda: check(begin), is_known))
        try:
            return await asyncio.shield(guessing)
        except asyncio.CancelledError:
            if not has_begun:
                guessing.cancel()
            raise

    async def _guess(self, check: Callable[[], Awaitable[bool]], is_known: bool) -> bool:
        async with self._throttle.turn(self._own if is_known else self._all):
            self.admit(is_known=is_known)  # while it waited, others may have failed
            if await check():
                return True
            await self._throttle.count(self._all)
            return False
