"""Limits on failed logins, forged tokens, wrong reset codes, registrations and password resets, in fixed windows.

Failed logins are counted per account and source, per source, and per account, whether the account exists or not. Only
the first limit applies to known sources: an attacker can't lock the owner out. Refused attempts don't count.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from killrvideo_grpc.domain.account import Account, now
from killrvideo_grpc.domain.changes import SOURCE_KNOWN_FOR
from killrvideo_grpc.domain.errors import TooManyAttempts
from killrvideo_grpc.domain.ports import SLOTS, AttemptCounter, AttemptCounters
from killrvideo_grpc.service.keyed_semaphore import KeyedSemaphore, Wait

WINDOW_SECONDS = 15 * 60
LONG_WINDOW_SECONDS = 60 * 60
ATTEMPT_SLOTS = SLOTS * 15 // 16
MAX_RESETS = 5  # of one address
UNSPECIFIED = ""  # the source of callers without one
MAX_REMEMBERED = 10_000
# Between attempts that are let through to find out whether a blocked account has been unblocked.
RECHECK_SECONDS = 5.0

T = TypeVar("T")


class Kind(StrEnum):
    """What is counted. The values are hashed into slots."""

    ACCOUNT_AND_SOURCE = "account and source"
    SOURCE = "source"
    ACCOUNT = "account"
    FORGED_REFRESH = "forged token"
    WRONG_RESET_CODE = "reset code"
    REGISTRATION = "registrations"
    RESET = "resets"

    @property
    def is_long(self) -> bool:
        """Whether it has the longer window. Such kinds share the slots from ATTEMPT_SLOTS on."""
        return self in {Kind.REGISTRATION, Kind.RESET}


@dataclass(frozen=True, slots=True)
class Limits:
    """How many attempts may fail in 15 minutes, and how many accounts a source may register in an hour. 0: no limit.

    Callers without a source share one. Its limit per account and source is the limit per account.
    """

    account_and_source: int
    source: int
    account: int
    registrations: int


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit, and where attempts that count towards it are counted."""

    kind: Kind
    counter: AttemptCounter
    maximum: int
    window_seconds: int


@dataclass(slots=True)
class _Reached:
    """A count that has reached a limit, and when it was last read or checked."""

    counter: AttemptCounter
    count: int
    checked_at: float


class Throttle:
    """Counts attempts in the store. `digest` is a keyed hash: callers can't choose their slot.

    `former_digests`, of earlier keys, still recognise the sources that accounts have stored.

    At most `max_concurrent` attempts per account or source proceed; others queue inside the context manager `wait()`.
    A burst overshoots a limit by at most `max_concurrent` per process.
    """

    def __init__(
        self,
        counters: AttemptCounters,
        digest: Callable[[str], bytes],
        limits: Limits,
        max_concurrent: int,
        wait: Wait = nullcontext,
        clock: Callable[[], float] = time.time,
        former_digests: Sequence[Callable[[str], bytes]] = (),
    ) -> None:
        self._counters = counters
        self._digest = digest
        self._former_digests = former_digests
        self._limits = limits
        self._permits = KeyedSemaphore(max_concurrent, wait)
        self._clock = clock
        self._reached: dict[int, _Reached] = {}  # by slot, to refuse further attempts without asking the store
        self._unblocked: dict[str, datetime] = {}  # by account, as last read
        self._tasks: set[asyncio.Task[Any]] = set()

    def password_limits(
        self, account: str, source: str | None, unblocked: datetime | None
    ) -> tuple[list[Limit], list[Limit]]:
        """Return the own and the wide limits of a `PasswordAttempt`."""
        maximum = self._limits.account if source is None else self._limits.account_and_source
        own = self._limit(Kind.ACCOUNT_AND_SOURCE, maximum, f"{source or UNSPECIFIED}\0{account}", unblocked)
        total = [] if source is None else self._limit(Kind.SOURCE, self._limits.source, source)
        return own, [*self._limit(Kind.ACCOUNT, self._limits.account, account, unblocked), *total]

    def last_unblocked(self, account: str) -> datetime | None:
        """Return when the account was last unblocked, as this process knows it."""
        return self._unblocked.get(account)

    def note_unblocked(self, account: str, unblocked: datetime | None) -> None:
        """Remember when the account was last unblocked, if ever."""
        if unblocked is None:
            self._unblocked.pop(account, None)
            return
        if len(self._unblocked) >= MAX_REMEMBERED:
            self._unblocked.clear()
        self._unblocked[account] = unblocked

    async def count_forged_token(self, source: str | None) -> None:
        """Count a refresh token that we did not sign. Raise TooManyAttempts if the source has sent too many."""
        await self._count_from_source(Kind.FORGED_REFRESH, source)

    async def count_wrong_reset_code(self, source: str | None) -> None:
        """Count a wrong reset code. Raise TooManyAttempts if the source has sent too many."""
        await self._count_from_source(Kind.WRONG_RESET_CODE, source)

    async def count_reset(self, account: str, unblocked: datetime | None) -> None:
        """Count a reset code made for an account. Raise TooManyAttempts beyond MAX_RESETS."""
        limits = self._limit(Kind.RESET, MAX_RESETS, account, unblocked)
        await self.read(limits)
        self.check(limits)
        await self._count_up_to(limits)

    async def _count_from_source(self, kind: Kind, source: str | None) -> None:
        limits = [] if source is None else self._limit(kind, self._limits.source, source)
        self.check(limits)
        await self.read(limits)
        self.check(limits)
        await asyncio.shield(self.start(self.count(limits)))  # counts even if the caller hangs up

    async def count_registration(self, source: str | None) -> None:
        """Count a registration. Raise TooManyAttempts if it exceeds the limit."""
        await self._count_up_to(self._registration_limits(source))

    def check_registration(self, source: str | None) -> None:
        """Raise TooManyAttempts if this process already knows that the limit is reached."""
        self.check(self._registration_limits(source))

    def is_known_source(self, account: Account, source: str | None) -> bool:
        """Return whether somebody registered or recently logged in to the account from this source."""
        digests = [_source_digest(digest, account, source) for digest in (self._digest, *self._former_digests)]
        return any(
            now() - account.sources[digest] < SOURCE_KNOWN_FOR for digest in digests if digest in account.sources
        )

    def source_digest(self, account: Account, source: str | None) -> str:
        """Return the digest of a source that an account stores. It can't be linked to those of other accounts."""
        return _source_digest(self._digest, account, source)

    def check(self, limits: Sequence[Limit]) -> None:
        """Raise TooManyAttempts if this process knows that one of the limits is reached."""
        reached = [limit for limit in limits if self._is_reached(limit)]
        if reached:
            raise TooManyAttempts(max(map(self._seconds_left, reached)))

    def check_before_read(self, limits: Sequence[Limit]) -> None:
        """Raise TooManyAttempts as `check` does, but let one attempt through every RECHECK_SECONDS."""
        reached = [self._reached[limit.counter.slot] for limit in limits if self._is_reached(limit)]
        is_due = all(self._clock() - each.checked_at >= RECHECK_SECONDS for each in reached)
        if not is_due:
            self.check(limits)
        for each in reached:
            each.checked_at = self._clock()

    async def read(self, limits: Sequence[Limit]) -> None:
        """Read from the store which limits are reached."""
        if limits:
            self._remember(limits, await self._counters.read_attempts([limit.counter for limit in limits]))

    async def count(self, limits: Sequence[Limit]) -> Sequence[int]:
        """Count an attempt towards each limit, and return the new counts."""
        if not limits:
            return []
        counts = await self._counters.count_attempt([limit.counter for limit in limits])
        self._remember(limits, counts)
        return counts

    async def _count_up_to(self, limits: Sequence[Limit]) -> None:
        """Count an attempt. Raise TooManyAttempts if it exceeds one of the limits."""
        for limit, count in zip(limits, await self.count(limits), strict=True):
            if count > limit.maximum:
                raise TooManyAttempts(self._seconds_left(limit))

    def permits(self, limits: Sequence[Limit]) -> AbstractAsyncContextManager[None]:
        """Return a context manager that waits for a permit for each limit, and holds them."""
        return self._permits.acquire([(limit.kind, limit.counter.slot) for limit in limits])

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task that may outlive the call that started it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _registration_limits(self, source: str | None) -> list[Limit]:
        return [] if source is None else self._limit(Kind.REGISTRATION, self._limits.registrations, source)

    def _limit(self, kind: Kind, maximum: int, key: str, unblocked: datetime | None = None) -> list[Limit]:
        """Return the limit of a kind for a key, in a list that is empty if there is none."""
        if not maximum:
            return []
        seconds = LONG_WINDOW_SECONDS if kind.is_long else WINDOW_SECONDS
        window = int(self._clock() // seconds)
        # Unblocking an account begins new counters, under other keys until the window ends.
        if unblocked and unblocked.timestamp() >= window * seconds:
            key = f"{key}\0{unblocked.isoformat()}"
        number = int.from_bytes(self._digest(f"{kind}\0{key}")[:8])
        slot = ATTEMPT_SLOTS + number % (SLOTS - ATTEMPT_SLOTS) if kind.is_long else number % ATTEMPT_SLOTS
        return [Limit(kind, AttemptCounter(slot, window), maximum, seconds)]

    def _remember(self, limits: Sequence[Limit], counts: Sequence[int]) -> None:
        for limit, count in zip(limits, counts, strict=True):
            if count >= limit.maximum:
                if len(self._reached) >= MAX_REMEMBERED:
                    self._reached.clear()  # the store remembers
                self._reached[limit.counter.slot] = _Reached(limit.counter, count, self._clock())

    def _is_reached(self, limit: Limit) -> bool:
        reached = self._reached.get(limit.counter.slot)
        return reached is not None and reached.counter == limit.counter and reached.count >= limit.maximum

    def _seconds_left(self, limit: Limit) -> int:
        end = (limit.counter.window + 1) * limit.window_seconds
        return max(1, math.ceil(end - self._clock()))


def _source_digest(digest: Callable[[str], bytes], account: Account, source: str | None) -> str:
    return digest(f"known source\0{account.user_id}\0{source or UNSPECIFIED}")[:16].hex()
