"""Regular sweeps of the store."""

import asyncio
import logging
import random
from collections.abc import Callable

from killrvideo_grpc.domain.errors import ServiceError, UnusableStore
from killrvideo_grpc.domain.ports import AccountStore

# Between two sweeps, at random, so that processes don't all sweep at once.
MIN_SECONDS, MAX_SECONDS = 30.0, 90.0

_log = logging.getLogger("killrvideo_grpc.sweeper")


class Sweeper:
    """Sweeps the store about once a minute, in the background.

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
        """Stop sweeping, and cancel a sweep in progress."""
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
                pass  # the store has logged it
            except Exception as error:
                # A bug must not stop further sweeps. Log only its type: its message may quote stored data.
                _log.error("sweep failed: %s", type(error).__qualname__)
            self._on_swept(found)
