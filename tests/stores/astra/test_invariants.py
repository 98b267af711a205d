"""After random changes by two processes, with answers lost or late, all documents and rows agree."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, now
from killrvideo_grpc.domain.changes import (
    AssignRole,
    Change,
    Delete,
    EndSessions,
    Rename,
    RevokeRole,
    SetStatus,
)
from killrvideo_grpc.domain.errors import ServiceError, StoreUnavailable
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.document import document_id, is_active_moderator, is_deleted
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.astra.sweep import SETTLE_TIME, UNCLAIMED_AGE
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from tests.stores.astra.conftest import OpenStore
from tests.support.accounts import HASH, a_cause, a_new_password, a_session, an_account, opening, refreshing
from tests.support.fake_data_api import Close, FakeDataApi, Fault, Late
from tests.support.keyspaces import KEYSPACE

pytestmark = pytest.mark.anyio

ADDRESSES = [f"{name}.{uuid4().hex}@example.org" for name in ("ann", "bea", "cleo", "dora")]


@dataclass
class Sometimes:
    """A fault of one kind in a random share of the requests."""

    kind: Close | Late
    share: float
    dice: random.Random

    async def meet(self, fault: Fault, http: web.BaseRequest, answer: web.Response | None) -> web.StreamResponse | None:
        return await self.kind.meet(fault, http, answer) if self.dice.random() < self.share else None


@dataclass
class World:
    """Two processes, the accounts that they know, and the changes that were acknowledged."""

    stores: list[AstraStore]
    dice: random.Random
    accounts: dict[UUID, Account] = field(default_factory=dict)
    acknowledged: list[Cause] = field(default_factory=list)

    async def step(self) -> None:
        """Register an account, or change one that the process may not have read lately."""
        store = self.dice.choice(self.stores)
        try:
            if not self.accounts or self.dice.random() < 0.1:
                await self._register(store)
            else:
                await self._change(store, self.dice.choice(list(self.accounts.values())))
        except ServiceError:
            pass

    async def _register(self, store: AstraStore) -> None:
        account = an_account(self.dice.choice(ADDRESSES))
        try:
            await store.register(account, HASH, cause := a_cause(account))
            self.acknowledged.append(cause)
        except StoreUnavailable:  # then only a login finds the account, by its address
            found = await store.find_credentials(account.email)
            if not found or found.account.user_id != account.user_id:
                return
        self.accounts[account.user_id] = account

    async def _change(self, store: AstraStore, account: Account) -> None:
        make = self.dice.choice(CHANGES)
        cause, change = a_cause(account), make(account)
        seen = account if account.stored and self.dice.random() < 0.5 else None
        after = await store.apply(account.user_id, change, cause, seen=seen)
        if isinstance(change, Delete):
            del self.accounts[account.user_id]
            self.acknowledged.append(cause)
        else:
            self.accounts[account.user_id] = after


def a_refresh(account: Account) -> Change:
    session = next(iter(account.sessions.values()), a_session())
    return refreshing(session)


CHANGES: list[Callable[[Account], Change]] = [
    *[lambda account: AssignRole(Role.MODERATOR)] * 3,
    *[lambda account: RevokeRole(Role.MODERATOR)] * 3,
    lambda account: AssignRole(Role.CREATOR),
    lambda account: SetStatus(AccountStatus.SUSPENDED),
    *[lambda account: SetStatus(AccountStatus.ACTIVE)] * 2,
    *[lambda account: Rename(uuid4().hex[:8], None)] * 2,
    *[opening, a_refresh, lambda account: EndSessions(None), a_new_password],
    lambda account: Delete(account.credential_id),
]


@pytest.mark.parametrize("seed", [1, 2])
async def test_all_agrees_in_the_end(open_store: OpenStore, server: FakeDataApi, seed: int) -> None:
    dice = random.Random(seed)
    world = World([open_store(), open_store()], dice)
    share = {1: 0.05, 2: 0.15}[seed]
    late = server.fail(Sometimes(Late(), share, dice), where=lambda request: not request.command.startswith("find"))
    server.fail(Sometimes(Close(), share, dice))
    server.fail(Sometimes(Close(), share, dice), after_write=True)
    for _ in range(12):
        await asyncio.gather(*(world.step() for _ in range(4)))
        if dice.random() < 0.5:
            late.carry_out(server.execute)
    had_moderators = any(is_active_moderator(each) for each in documents(server, "account:"))
    for store in world.stores:  # whose unfinished work is lost with them
        await store.close()
    server.clear_faults()
    late.carry_out(server.execute)
    await calm(open_store())
    assert wrong(server, world.acknowledged) == []
    if had_moderators:
        assert any(is_active_moderator(each) for each in documents(server, "account:"))


async def calm(store: AstraStore) -> None:
    """Sweep until no work is left, as if hours passed."""
    at = now() + 2 * UNCLAIMED_AGE
    for number in range(5):
        await store.sweep(at + number * SETTLE_TIME)


def documents(server: FakeDataApi, prefix: str) -> list[dict[str, Any]]:
    return [each for each in server.documents(KEYSPACE, ACCOUNTS) if each["_id"].startswith(prefix)]


def wrong(server: FakeDataApi, acknowledged: list[Cause]) -> list[object]:
    """Return what doesn't agree."""
    accounts = {each["_id"]: each for each in documents(server, "account:")}
    live = {key: each for key, each in accounts.items() if not is_deleted(each)}
    claims = {each["_id"]: each["owner"] for each in documents(server, "email:")}
    rows = {document_id(UUID(row["userid"])): row for row in server.rows(KEYSPACE, USERS)}
    found: list[object] = [("pending", each["_id"]) for each in documents(server, "") if "pending" in each]
    found += [("claim", key) for key, each in live.items() if f"account:{claims[claim_id(each['email'])]}" != key]
    found += [("owner", owner) for owner in claims.values() if owner and f"account:{owner}" not in live]
    found += [("row", key) for key in live.keys() ^ rows.keys()]
    for key in live.keys() & rows.keys():
        shown = [rows[key][name] for name in ("email", "firstname", "lastname", "account_status")]
        if shown != [live[key][name] for name in ("email", "firstname", "lastname", "status")]:
            found.append(("row", key))
    (index,) = documents(server, "index:") or [{"ids": [], "leaving": []}]
    moderators = sorted(key.removeprefix("account:") for key, each in live.items() if is_active_moderator(each))
    if index["ids"] != moderators or index["leaving"]:
        found.append(("index", index, moderators))
    for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY):
        recorded = [row["event_id"] for row in server.rows(KEYSPACE, table) if "action" in row]
        found += [(table, cause) for cause in acknowledged if recorded.count(str(cause.event_id)) != 1]
    return found
