"""Regularly finishes work that crashed processes left incomplete in the store."""

import asyncio
import logging
import random
from collections.abc import Callable

from killrvideo_grpc.domain.errors import ServiceError, UnusableStore
from killrvideo_grpc.domain.ports import AccountStore

# Random pause between two sweeps. Every process sweeps, and this keeps them from all sweeping at once.
MIN_SECONDS, MAX_SECONDS = 30.0, 90.0

_log = logging.getLogger("killrvideo_grpc.sweeper")


class Sweeper:
    """Sweeps the store about once a minute, in the background. The store logs what it does and what fails.

    Calls `on_swept` after each sweep, with the number of unfinished accounts it found, or None if it failed.
    """

    def __init__(self, store: AccountStore, on_swept: Callable[[int | None], None] = lambda _: None) -> None:
        self._store = store
        self._on_swept = on_swept
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start sweeping. The first sweep comes after a pause."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop sweeping. A sweep in progress is cancelled; other processes or the next start continue its work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(MIN_SECONDS, MAX_SECONDS))  # noqa: S311 # needs no cryptographic randomness
            found: int | None = None
            try:
                found = await self._store.sweep()
            except (ServiceError, UnusableStore):
                pass  # the store has logged it, and the next sweep may succeed
            except Exception as error:
                # A bug must not stop all further sweeps. Log only the type: the message may quote stored data.
                _log.error("sweep failed: %s", type(error).__qualname__)
            self._on_swept(found)
