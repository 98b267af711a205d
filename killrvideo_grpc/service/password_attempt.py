"""Attempts at a password, counted by the throttle."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from killrvideo_grpc.service.throttle import Throttle

Check = Callable[[Callable[[], None]], Awaitable[bool]]


class PasswordAttempt:
    """One password attempt: `load`, then `verify`.

    `account` is any text that identifies the account. `unblocked` is when it was last unblocked, if that has been read.

    Own limits count only attempts at this account from this source; wide ones count others too. Raises TooManyAttempts
    if this process has lately learned that an own limit is reached.
    """

    def __init__(self, throttle: Throttle, account: str, source: str | None, unblocked: datetime | None = None) -> None:
        self._throttle = throttle
        self._account = account
        self._source = source
        self._own, self._wide = throttle.password_limits(account, source, unblocked or throttle.last_unblocked(account))
        throttle.check_before_read(self._own)

    async def load(self) -> None:
        """Read the counts from the store."""
        await self._throttle.read([*self._own, *self._wide])

    async def verify(self, check: Check, *, is_known: bool, unblocked: datetime | None = None) -> bool:
        """Wait for a permit, run `check`, count a failure, and return the result. Raise TooManyAttempts.

        `unblocked` is when the account was last unblocked. `check` gets a function to call just before it checks the
        password. From then on, a wrong one is counted even if the caller hangs up.
        """
        has_begun = False

        def begin() -> None:
            nonlocal has_begun
            has_begun = True

        await self._switch_counters(unblocked)
        task = self._throttle.start(self._verify(lambda: check(begin), is_known))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not has_begun:
                task.cancel()
            raise

    async def _switch_counters(self, unblocked: datetime | None) -> None:
        """Take the counters that began when the account was unblocked. Raise TooManyAttempts."""
        self._throttle.note_unblocked(self._account, unblocked)
        limits = self._throttle.password_limits(self._account, self._source, unblocked)
        if limits != (self._own, self._wide):
            self._own, self._wide = limits
            await self.load()
        self._throttle.check(self._own)

    async def _verify(self, check: Callable[[], Awaitable[bool]], is_known: bool) -> bool:
        everything = [*self._own, *self._wide]
        limits = self._own if is_known else everything
        async with self._throttle.permits(limits):
            self._throttle.check(limits)  # other attempts may have failed while this one waited
            if await check():
                return True
            await self._throttle.count(everything)
            return False
