"""The SQLite store, with failures on demand."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.sqlite.store import SqliteStore


async def undisturbed() -> None:
    """Do nothing before a read."""


class FlakyStore(SqliteStore):
    """A store whose `find_credentials` waits until `go_on` is set, then raises `error` if there is one.

    `waiting` is set when a call reaches it. Tests use both events from other threads. `ping` also raises a
    StoreUnavailable `error`. `reads` counts the accounts read by id, and `on_read` is awaited before each.
    """

    on_read: Callable[[], Awaitable[None]]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.error: Exception | None = None
        self.waiting, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.reads = 0
        self.on_read = undisturbed

    async def ping(self) -> None:
        if isinstance(self.error, StoreUnavailable):
            raise self.error
        await super().ping()

    async def find_credentials(self, email: str) -> Credentials | None:
        self.waiting.set()
        # Polled, because waiting would block the loop, or a thread even after this call was cancelled.
        while not self.go_on.is_set():  # noqa: ASYNC110 # asyncio's own events can't be set from a test's thread
            await asyncio.sleep(0.005)
        if self.error:
            raise self.error
        return await super().find_credentials(email)

    async def get(self, user_id: UUID) -> Account | None:
        self.reads += 1
        await self.on_read()
        return await super().get(user_id)
