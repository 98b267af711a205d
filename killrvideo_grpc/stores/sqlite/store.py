"""The default store: accounts in one SQLite file, which several processes on one machine can share.

The domain decides a change inside the transaction that writes it. A unique column gives an address one owner, and
writes.py protects the last moderator.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials
from killrvideo_grpc.domain.changes import Change, Delete
from killrvideo_grpc.domain.errors import StoreUnavailable, UnusableStore
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.domain.ports import AttemptCounter, Page
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.domain.services import Services, ServicesChange
from killrvideo_grpc.stores.sqlite import attempts, imports, queries, services, writes
from killrvideo_grpc.stores.sqlite.connection_thread import MAX_WAIT, ConnectionThread
from killrvideo_grpc.stores.sqlite.file import DatabaseFile, is_busy, unavailable
from killrvideo_grpc.stores.sqlite.schema import migrate

READ_BATCH_SIZE = 20  # with 20 sessions each, they block the event loop for 2 ms

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStore:
    """Implements `AccountStore`. Reads run on the event loop; searches and writes have a thread each.

    Raise UnusableStore if the file can't be opened, is not a database of this service, or has a newer schema.
    """

    def __init__(self, path: Path, instrumentation: Instrumentation = NOOP) -> None:
        self._instrumentation = instrumentation
        try:
            self._file = DatabaseFile(path)
            with ExitStack() as stack:
                connection = stack.enter_context(closing(self._file.connect(MAX_WAIT)))
                migrate(connection, MAX_WAIT)
                self._file.make_private()  # only now that it is known to be ours
                self._reader = self._file.connect(max_wait=0)  # waiting for a lock would block the event loop
                stack.callback(self._reader.close)
                searching = self._file.connect(MAX_WAIT)
                stack.pop_all()  # success: `close` closes them
        except (sqlite3.Error, OSError) as error:
            raise UnusableStore(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        self._writer = ConnectionThread(self._file, connection, "sqlite-write", instrumentation)
        self._searcher = ConnectionThread(self._file, searching, "sqlite-search", instrumentation)

    async def register(self, account: Account, password_hash: str, cause: Cause) -> None:
        await self._writer.write(writes.register, account, password_hash, cause)

    async def find_credentials(self, email: str) -> Credentials | None:
        return await self._read(queries.find_credentials, email)

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        return await self._read(queries.find_credentials, user_id)

    async def get(self, user_id: UUID) -> Account | None:
        return await self._read(queries.find_account, user_id)

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        wanted, found = list(user_ids), dict[UUID, Account]()
        for start in range(0, len(wanted), READ_BATCH_SIZE):
            found |= await self._read(queries.find_accounts, wanted[start : start + READ_BATCH_SIZE])
            await asyncio.sleep(0)  # lets other calls run
        return found

    async def apply(
        self, user_id: UUID, change: Change, cause: Cause, *, seen: Account | None = None, force: bool = False
    ) -> Account:
        account = await self._writer.write(writes.apply, user_id, change, cause, force=force)
        if isinstance(change, Delete):
            with suppress(StoreUnavailable):  # the next sweep truncates it
                await self._writer.truncate_log()
        return account

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        return await self._searcher.read(queries.search, query, size, start)

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        return await self._read(queries.find_events, user_id, size, start)

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        return await self._read(attempts.read_attempts, counters)

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        return await self._writer.write(attempts.count_attempt, counters)

    async def read_services(self) -> Services:
        return await self._read(services.read_services)

    async def change_services(self, change: ServicesChange) -> None:
        await self._writer.write(services.change_services, change)

    async def import_accounts(
        self, accounts: Sequence[ImportedAccount], *, dry_run: bool = False
    ) -> Sequence[ImportOutcome]:
        if dry_run:
            return await self._searcher.read(imports.foresee_import, accounts)
        return await self._writer.write(imports.import_accounts, accounts)

    async def all_credentials(self) -> AsyncIterator[Sequence[Credentials]]:
        start = ""
        while page := await self._searcher.read(imports.credentials_page, start):
            yield page
            start = str(page[-1].account.user_id)

    async def sweep(self) -> int:
        await self._writer.truncate_log()
        return 0  # each change is one transaction, so none is unfinished

    async def ping(self) -> None:
        try:
            self._file.fail_if_replaced()
        except OSError as error:
            raise unavailable(error) from None
        await self._read(queries.probe)

    async def close(self) -> None:
        self._reader.close()  # not last: closing the last connection writes to the file
        await self._searcher.close()
        await self._writer.close()

    async def _read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self._instrumentation.store_request(query.__name__):
            try:
                return query(self._reader, *args, **kwargs)
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise unavailable(error) from None
        return await self._writer.read(query, *args, **kwargs)
