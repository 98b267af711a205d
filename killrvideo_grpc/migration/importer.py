"""Brings accounts into a store, in batches, and reports what became of each row."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.domain.imports import IMPORT_BATCH, ImportedAccount, ImportOutcome
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.migration.killrvideo import profile_only
from killrvideo_grpc.migration.rows import Candidate, RefusedRow

T = TypeVar("T")

_REASONS = {
    ImportOutcome.DELETED: "this account was deleted here",
    ImportOutcome.EMAIL_TAKEN: "another account here has its address",
}


@dataclass(slots=True)
class Counts:
    """What became of the rows. `profile_only` are those of the imported that nobody can log in to."""

    imported: int = 0
    existing: int = 0
    refused: int = 0
    profile_only: int = 0
    rewritten: int = 0  # rows of the source that differ from those of the imported accounts
    unusable_passwords: Counter[str] = field(default_factory=Counter)  # by kind


class Importer:
    """Imports rows into a store. `say` gets a line for each refusal, loss and moderator.

    `actor` goes into the events. A dry run writes nothing.
    """

    def __init__(
        self,
        store: AccountStore,
        actor: str,
        *,
        dry_run: bool,
        say: Callable[[str], object],
    ) -> None:
        self.counts = Counts()
        self.credentials = list[str]()  # keys in the source, of accounts that can log in here or were deleted
        self._store = store
        self._actor = actor
        self._dry_run = dry_run
        self._say = say

    async def run(
        self, rows: Iterable[Candidate | RefusedRow], advance: Callable[[int], object] = lambda _: None
    ) -> None:
        """Import all rows. Raise StoreUnavailable, after which a second run finishes the work.

        `advance` gets the number of rows done since its last call.
        """
        for batch in _batches(rows, IMPORT_BATCH):
            for row in batch:
                if isinstance(row, RefusedRow):
                    self._refuse(row.where, row.reason)
            await self._import([row for row in batch if isinstance(row, Candidate)])
            advance(len(batch))

    async def _import(self, candidates: list[Candidate]) -> None:
        outcomes = await self._try(candidates)
        again, existing = [], []
        for candidate, outcome in zip(candidates, outcomes, strict=True):
            if outcome is ImportOutcome.EMAIL_TAKEN and candidate.from_killrvideo:
                again.append(profile_only(candidate, _REASONS[outcome]))
            elif outcome is ImportOutcome.EXISTS and candidate.from_killrvideo:
                existing.append(candidate)
            else:
                self._count(candidate, outcome)
        if again:
            for candidate, outcome in zip(again, await self._try(again), strict=True):
                self._count(candidate, outcome)
        await self._count_existing(existing)

    async def _try(self, candidates: list[Candidate]) -> list[ImportOutcome]:
        accounts = [
            ImportedAccount.of(candidate.credentials, Cause(self._actor), candidate.before) for candidate in candidates
        ]
        return list(await self._store.import_accounts(accounts, dry_run=self._dry_run))

    def _count(self, candidate: Candidate, outcome: ImportOutcome) -> None:
        account = candidate.credentials.account
        if outcome is ImportOutcome.DELETED or (outcome is ImportOutcome.IMPORTED and account.email):
            self.credentials += candidate.source_emails
        if outcome in _REASONS:
            self._refuse(candidate.where, _REASONS[outcome])
            return
        if outcome is ImportOutcome.EXISTS:
            self.counts.existing += 1
            return
        self.counts.imported += 1
        self.counts.profile_only += not account.email
        self.counts.rewritten += candidate.rewrites
        self.counts.unusable_passwords.update([candidate.unusable_password] if candidate.unusable_password else [])
        self._remark(candidate, account)

    async def _count_existing(self, candidates: list[Candidate]) -> None:
        """Count accounts that exist. Name moderators and profiles again: an earlier report may be lost."""
        here = await self._store.get_many([candidate.credentials.account.user_id for candidate in candidates])
        for candidate in candidates:
            imported = candidate.credentials.account
            account = here.get(imported.user_id, imported)
            self.counts.existing += 1
            self.credentials += candidate.source_emails if account.email else ()
            reason = _REASONS[ImportOutcome.EMAIL_TAKEN] if imported.email else candidate.profile_only_because
            known = replace(candidate, remarks=(), profile_only_because="" if account.email else reason)
            self._remark(known, account)

    def _remark(self, candidate: Candidate, account: Account) -> None:
        user_id = str(account.user_id)
        where = candidate.where if user_id in candidate.where else f"{candidate.where}, {user_id}"
        if Role.MODERATOR in account.roles:
            self._say(f"{where}: moderator: {account.first_name} {account.last_name}")
        if candidate.profile_only_because:
            self._say(f"{where}: profile only: {candidate.profile_only_because}")
        for remark in candidate.remarks:
            self._say(f"{where}: {remark}")

    def _refuse(self, where: str, reason: str) -> None:
        self.counts.refused += 1
        self._say(f"{where}: refused: {reason}")


def _batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
