"""An AccountStore in memory, for tests of use cases. It passes the store suite."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials, normal_email
from killrvideo_grpc.domain.changes import Change
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, LastModerator, UserNotFound
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.domain.ports import AttemptCounter, Page
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.domain.services import Services, ServicesChange

T = TypeVar("T")


class MemoryDatabase:
    """What several stores can share."""

    def __init__(self) -> None:
        self.accounts: dict[UUID, Account] = {}
        self.hashes: dict[UUID, str] = {}
        self.owners: dict[str, UUID] = {}  # by the normal form of the address
        self.deleted: set[UUID] = set()
        self.events: list[Event] = []
        self.attempts: dict[int, tuple[int, int]] = {}  # by slot: the window and the count in it
        self.services: Services = {}


class MemoryStore:
    """Implements `AccountStore`. Every method lets other tasks run once, then works in one step.

    `interference` is awaited once, before the next change: between a call's read and its write. `calls` lists the
    methods called by those who read an account or count attempts.
    """

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.database = database or MemoryDatabase()
        self.calls: list[str] = []
        self.interference: Callable[[], Awaitable[object]] | None = None

    async def register(self, account: Account, password_hash: str, cause: Cause) -> None:
        await asyncio.sleep(0)
        address = normal_email(account.email)
        if address in self.database.owners:
            raise EmailAlreadyRegistered
        self.database.owners[address] = account.user_id
        self.database.accounts[account.user_id] = account
        self.database.hashes[account.user_id] = password_hash
        self.database.events.append(cause.registration(account))

    async def find_credentials(self, email: str) -> Credentials | None:
        await asyncio.sleep(0)
        owner = self.database.owners.get(normal_email(email))
        return self._credentials(owner) if owner else None

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        await asyncio.sleep(0)
        return self._credentials(user_id)

    async def get(self, user_id: UUID) -> Account | None:
        await asyncio.sleep(0)
        self.calls.append("get")
        return self.database.accounts.get(user_id)

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        await asyncio.sleep(0)
        accounts = self.database.accounts
        return {user_id: accounts[user_id] for user_id in user_ids if user_id in accounts}

    async def apply(
        self, user_id: UUID, change: Change, cause: Cause, *, seen: Account | None = None, force: bool = False
    ) -> Account:
        await asyncio.sleep(0)
        if interference := self.interference:
            self.interference = None
            await interference()
        before = self.database.accounts.get(user_id)
        if before is None:
            raise UserNotFound
        transition = change.decide(before, cause)
        if transition.loses_moderator(before) and not force and not self._has_other_moderator(before):
            raise LastModerator
        if transition.account is None:
            self._erase(before)
        else:
            self._move_claim(before, transition.account)
            self.database.accounts[user_id] = transition.account
        if transition.password_hash is not None:
            self.database.hashes[user_id] = transition.password_hash
        if transition.event:
            latest = max((event.at for event in self.database.events if event.account == user_id), default=None)
            self.database.events.append(transition.event.after_latest(latest))
        return transition.account or before

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        await asyncio.sleep(0)
        matching = (account for account in self.database.accounts.values() if query.matches(account))
        return _page(matching, lambda account: str(account.user_id), size, start)

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        await asyncio.sleep(0)
        events = [(n, event) for n, event in enumerate(self.database.events) if user_id in {None, event.account}]
        page = _page(events, lambda event: f"{event[1].at.isoformat()} {event[0]:09}", size, start, reverse=True)
        return Page([event for _, event in page.items], page.next)

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        await asyncio.sleep(0)
        self.calls.append("read_attempts")
        return [self._attempts(counter)[1] for counter in counters]

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        await asyncio.sleep(0)
        self.calls.append("count_attempt")
        for counter in counters:
            window, count = self._attempts(counter)
            self.database.attempts[counter.slot] = window, count + 1
        return [self._attempts(counter)[1] for counter in counters]

    async def read_services(self) -> Services:
        await asyncio.sleep(0)
        return self.database.services

    async def change_services(self, change: ServicesChange) -> None:
        await asyncio.sleep(0)
        self.database.services = change(self.database.services)

    async def import_accounts(
        self, accounts: Sequence[ImportedAccount], *, dry_run: bool = False
    ) -> Sequence[ImportOutcome]:
        await asyncio.sleep(0)
        outcomes = []
        for each in accounts:
            outcomes.append(outcome := self._foreseen(each.credentials.account))
            if outcome is ImportOutcome.IMPORTED and not dry_run:
                account = each.credentials.account
                self.database.accounts[account.user_id] = account
                self.database.hashes[account.user_id] = each.credentials.password_hash
                self.database.events.append(each.event)
                if account.email:
                    self.database.owners[normal_email(account.email)] = account.user_id
        return outcomes

    async def all_credentials(self) -> AsyncIterator[Sequence[Credentials]]:
        for user_id in list(self.database.accounts):
            await asyncio.sleep(0)
            if credentials := self._credentials(user_id):
                yield [credentials]

    async def sweep(self) -> int:
        return 0

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _credentials(self, user_id: UUID) -> Credentials | None:
        account = self.database.accounts.get(user_id)
        return Credentials(account, self.database.hashes[user_id]) if account else None

    def _foreseen(self, account: Account) -> ImportOutcome:
        if account.user_id in self.database.deleted:
            return ImportOutcome.DELETED
        if account.user_id in self.database.accounts:
            return ImportOutcome.EXISTS
        is_taken = normal_email(account.email) in self.database.owners
        return ImportOutcome.EMAIL_TAKEN if is_taken else ImportOutcome.IMPORTED

    def _has_other_moderator(self, account: Account) -> bool:
        others = (each for each in self.database.accounts.values() if each.user_id != account.user_id)
        return any(each.is_active_moderator for each in others)

    def _move_claim(self, before: Account, after: Account) -> None:
        if after.email == before.email:
            return
        address = normal_email(after.email)
        if self.database.owners.get(address, before.user_id) != before.user_id:
            raise EmailAlreadyRegistered
        del self.database.owners[normal_email(before.email)]
        self.database.owners[address] = before.user_id

    def _erase(self, account: Account) -> None:
        del self.database.accounts[account.user_id]
        del self.database.hashes[account.user_id]
        self.database.owners.pop(normal_email(account.email), None)
        self.database.deleted.add(account.user_id)

    def _attempts(self, counter: AttemptCounter) -> tuple[int, int]:
        window, count = self.database.attempts.get(counter.slot, (counter.window, 0))
        is_usable = window in {counter.window, counter.window + 1}
        return (window, count) if is_usable else (counter.window, 0)


def _page(items: Iterable[T], position: Callable[[T], str], size: int, start: str, *, reverse: bool = False) -> Page[T]:
    ordered = sorted(items, key=position, reverse=reverse)
    left = [item for item in ordered if not start or (position(item) < start if reverse else position(item) > start)]
    return Page(left[:size], position(left[size - 1]) if len(left) > size else "")
