"""Importing rows into a store, and what the report says."""

from dataclasses import replace
from typing import Any

import pytest

from killrvideo_grpc.domain.account import Account, Credentials, Role
from killrvideo_grpc.domain.changes import Delete, RevokeRole
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.events import Action
from killrvideo_grpc.domain.imports import IMPORT_BATCH
from killrvideo_grpc.migration.importer import Importer
from killrvideo_grpc.migration.rows import Candidate, RefusedRow
from tests.support.accounts import HASH, a_cause, an_account
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.anyio

VIEWER = frozenset({Role.VIEWER})


def a_row(account: Account, **fields: Any) -> Candidate:
    return replace(Candidate("line 2", Credentials(account, HASH), before="active"), **fields)


class Run:
    """An import into a store, with its lines."""

    def __init__(self, store: MemoryStore, *, dry_run: bool = False) -> None:
        self.lines: list[str] = []
        self.importer = Importer(store, "cli:ann", dry_run=dry_run, say=self.lines.append)

    async def of(self, *rows: Candidate | RefusedRow) -> tuple[int, int, int]:
        """Return how many were imported, were there already, and were refused."""
        await self.importer.run(rows)
        counts = self.importer.counts
        return counts.imported, counts.existing, counts.refused


async def test_a_second_run_finds_everything_there() -> None:
    store, rows = MemoryStore(), [a_row(an_account()) for _ in range(2 * IMPORT_BATCH + 1)]
    advanced: list[int] = []
    run = Run(store)
    await run.importer.run(rows, advanced.append)
    assert advanced == [IMPORT_BATCH, IMPORT_BATCH, 1]
    assert run.lines == []
    assert await Run(store).of(*rows) == (0, len(rows), 0)
    assert len(store.database.events) == len(rows)
    event = store.database.events[0]
    assert (event.action, event.actor, event.before, event.after) == (Action.IMPORTED, "cli:ann", "active", "viewer")


async def test_rows_are_named_that_do_not_come_through_whole() -> None:
    store, owner = MemoryStore(), an_account()
    deleted = an_account()
    for account in (owner, deleted):
        await store.register(account, HASH, a_cause(account))
    await store.apply(deleted.user_id, Delete(deleted.credential_id), a_cause(deleted))
    taken, moderator = an_account(owner.email), an_account(roles=frozenset({Role.VIEWER, Role.MODERATOR}))
    rows: list[Candidate | RefusedRow] = [
        RefusedRow("line 2", "it is not JSON"),
        a_row(taken, where="line 3"),
        a_row(deleted, where="line 4"),
        a_row(owner, where="line 5", remarks=("not shown",)),
        a_row(moderator, where="line 6", remarks=("its name is short",), unusable_password="MD5"),
    ]
    run = Run(store)
    assert await run.of(*rows) == (1, 1, 3)
    assert run.lines == [
        "line 2: refused: it is not JSON",
        "line 3: refused: another account here has its address",
        "line 4: refused: this account was deleted here",
        f"line 6, {moderator.user_id}: moderator: Ann Lee",
        f"line 6, {moderator.user_id}: its name is short",
    ]
    assert run.importer.counts.unusable_passwords == {"MD5": 1}


async def test_an_address_that_is_owned_here_can_be_given_up() -> None:
    store, owner = MemoryStore(), an_account()
    await store.register(owner, HASH, a_cause(owner))
    row = a_row(
        an_account(owner.email, roles=frozenset({Role.MODERATOR})), from_killrvideo=True, unusable_password="MD5"
    )
    for dry_run in (True, False):
        run = Run(store, dry_run=dry_run)
        assert await run.of(row) == (1, 0, 0)
        assert run.importer.counts.profile_only == 1
        assert not run.importer.counts.unusable_passwords
        user_id = row.credentials.account.user_id
        assert run.lines == [f"line 2, {user_id}: profile only: another account here has its address"]
    found = await store.get_credentials(user_id)
    assert found
    assert (found.account.email, found.account.roles, found.password_hash) == ("", frozenset({Role.VIEWER}), "")
    assert await Run(store).of(row) == (0, 1, 0)


async def test_a_dry_run_writes_nothing() -> None:
    store = MemoryStore()
    assert await Run(store, dry_run=True).of(a_row(an_account()), RefusedRow("line 3", "x")) == (1, 0, 1)
    assert store.database.accounts == {}
    assert store.database.events == []


async def test_an_interrupted_import_goes_on() -> None:
    class Stopping(MemoryStore):
        batches = 0

        async def import_accounts(self, accounts: Any, *, dry_run: bool = False) -> Any:
            self.batches += 1
            if self.batches == 2:
                raise StoreUnavailable("gone")
            return await super().import_accounts(accounts, dry_run=dry_run)

    store, rows = Stopping(), [a_row(an_account()) for _ in range(3 * IMPORT_BATCH)]
    run = Run(store)
    with pytest.raises(StoreUnavailable):
        await run.of(*rows)
    assert run.importer.counts.imported == IMPORT_BATCH
    assert await Run(store).of(*rows) == (2 * IMPORT_BATCH, IMPORT_BATCH, 0)


async def test_credentials_are_purged_of_accounts_that_log_in_here_or_were_deleted() -> None:
    store, owner, deleted = MemoryStore(), an_account(), an_account()
    for account in (owner, deleted):
        await store.register(account, HASH, a_cause(account))
    await store.apply(deleted.user_id, Delete(deleted.credential_id), a_cause(deleted))
    rows = [
        a_row(an_account(), source_emails=(" New@example.org", "old@example.org"), from_killrvideo=True),
        a_row(deleted, source_emails=("deleted",), from_killrvideo=True),
        a_row(an_account(owner.email), source_emails=("profile only",), from_killrvideo=True),
        a_row(an_account(owner.email), source_emails=("refused",)),
        a_row(an_account(), from_killrvideo=True),
    ]
    for dry_run in (True, False, False):
        run = Run(store, dry_run=dry_run)
        await run.of(*rows)
        assert sorted(run.importer.credentials) == [" New@example.org", "deleted", "old@example.org"]


async def test_a_second_run_repeats_what_an_interrupted_one_may_have_said() -> None:
    store, owner = MemoryStore(), an_account()
    await store.register(owner, HASH, a_cause(owner))
    moderator, demoted, lonely = (an_account(roles=frozenset({Role.VIEWER, Role.MODERATOR})) for _ in range(3))
    rows = [
        a_row(moderator, where=f"users {moderator.user_id}", from_killrvideo=True),
        a_row(replace(lonely, email="", roles=VIEWER), profile_only_because="x", from_killrvideo=True),
        a_row(an_account(owner.email), where="taken", from_killrvideo=True),
        a_row(demoted, where="demoted", remarks=("its name is short",), from_killrvideo=True),
    ]
    first, second = Run(store), Run(store)
    await first.of(*rows)
    await store.apply(demoted.user_id, RevokeRole(Role.MODERATOR), a_cause(demoted))
    await second.of(*rows)
    assert f"users {moderator.user_id}: moderator: Ann Lee" in first.lines
    assert sorted(second.lines) == sorted(line for line in first.lines if not line.startswith("demoted"))


async def test_accounts_whose_credentials_were_purged_are_not_reported_as_profiles() -> None:
    store, account = MemoryStore(), an_account()
    await Run(store).of(a_row(account, from_killrvideo=True))
    run = Run(store)
    await run.of(a_row(replace(account, email=""), profile_only_because="x", from_killrvideo=True))
    assert run.lines == []
