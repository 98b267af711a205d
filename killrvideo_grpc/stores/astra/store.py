"""Accounts on Astra DB or any Data API. Each account is one document, each change one update (docs/accounts.md)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role
from killrvideo_grpc.domain.changes import (
    AssignRole,
    Change,
    EndSessions,
    Event,
    RevokeRole,
    SetStatus,
)
from killrvideo_grpc.domain.errors import (
    EmailAlreadyRegistered,
    InvalidCredentials,
    ServiceError,
    StoreUnavailable,
    UserNotFound,
)
from killrvideo_grpc.domain.ports import AttemptCounter, Page
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.stores.astra import successions
from killrvideo_grpc.stores.astra.account_updates import deletion, ends_any, needs_projection, update_for, was_accepted
from killrvideo_grpc.stores.astra.attempts import AstraAttempts
from killrvideo_grpc.stores.astra.background import Background
from killrvideo_grpc.stores.astra.claims import EmailClaims, owner_of
from killrvideo_grpc.stores.astra.document import document_id, new_document, read_account, read_credentials
from killrvideo_grpc.stores.astra.histories import read_state
from killrvideo_grpc.stores.astra.moderator_index import Moderators
from killrvideo_grpc.stores.astra.projections import Projections
from killrvideo_grpc.stores.astra.queries import AstraLists
from killrvideo_grpc.stores.astra.repair import Repairs
from killrvideo_grpc.stores.data_api.batch_loader import JoinedReads
from killrvideo_grpc.stores.data_api.client import DataApi, Document
from killrvideo_grpc.stores.data_api.errors import AlreadyExists

NOBODY = UUID(int=0)  # no account has this id


class AstraStore:
    """Implements `AccountStore`. Rows and events are written after the answer, or by a sweep if the process crashes."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._reads = JoinedReads(api.find_documents, api.max_wait, api.instrumentation)
        self._claims = EmailClaims(api)
        self._moderators = Moderators(api)
        self._projections = Projections(api, self._claims)
        self._lists = AstraLists(api)
        self._attempts = AstraAttempts(api)
        self._repairs = Repairs(api)
        self._background = Background()

    async def register(self, account: Account, password_hash: str, event: Event) -> None:
        document = new_document(account, password_hash, event)
        async with self._api.within("register"):
            log = await self._claims.find_log(account.email)
            if log and owner_of(log):
                raise EmailAlreadyRegistered
            try:
                await self._api.insert_document(document)
            except AlreadyExists:
                pass  # our own document: the answer to the first try was lost
            if not await self._claims.claim(account.email, account.user_id, log):
                self._background.start("remove account", lambda: self._api.delete_document(document["_id"]))
                raise EmailAlreadyRegistered
        self._project(document)

    async def find_credentials(self, email: str) -> Credentials | None:
        async with self._api.within("find credentials"):
            # Reads a document even if nobody owns the address, so that timing doesn't reveal whether anybody does.
            return await self.get_credentials(await self._claims.find_owner(email) or NOBODY)

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        return read_credentials(await self._api.find_document(document_id(user_id), with_hashes=True))

    async def get(self, user_id: UUID) -> Account | None:
        self._api.fail_if_down()
        return read_account(await self._reads.get(document_id(user_id)))

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        if not user_ids:
            return {}
        found = await self._api.find_documents([document_id(user_id) for user_id in set(user_ids)])
        accounts = (read_account(document) for document in found.values())
        return {account.user_id: account for account in accounts if account}

    async def apply(self, account: Account, change: Change, event: Event | None = None) -> Account:
        user_id = account.user_id
        is_settled = True
        async with self._api.within("apply"):
            match change:
                case AssignRole(Role.MODERATOR) | SetStatus(AccountStatus.ACTIVE):
                    changed, document = await self._change(user_id, change, event)
                    if changed.is_active_moderator:
                        await self._try(self._moderators.settle(user_id, is_moderator=True))
                case RevokeRole(Role.MODERATOR) | SetStatus():
                    force = isinstance(change, RevokeRole) and change.force
                    async with self._removed_from_guard(account, force=force):
                        changed, document = await self._change(user_id, change, event)
                    # Another call may have promoted the account, and added it to the guard, just before our write.
                    is_settled = await self._try(self._moderators.settle(user_id, is_moderator=False))
                case _:
                    changed, document = await self._change(user_id, change, event)
        # While the guard may still list an account that is no moderator, leave it pending, so that a sweep finds it.
        if is_settled and needs_projection(change, event):
            had_no_effect = event and isinstance(change, EndSessions) and not ends_any(change, document)
            self._project(document, ineffective=event.event_id if event and had_no_effect else None)
        return changed

    async def delete(self, account: Account, event: Event, *, force: bool = False) -> None:
        user_id = account.user_id
        async with self._api.within("delete"):
            async with self._removed_from_guard(account, force=force):
                document = await self._api.update_document(
                    document_id(user_id), lambda: deletion(account, event), image="after"
                )
                if document is None:
                    raise UserNotFound
                decision = successions.read(document).deletion
                if decision is None or decision.event_id != str(event.event_id):
                    self._project(document)
                    raise UserNotFound if decision else InvalidCredentials
            # The account is now deleted. A sweep finishes any step below that fails.
            if Role.MODERATOR in read_state(document).roles:
                await self._try(self._moderators.settle(user_id, is_moderator=False))
            await self._try(self._projections.project(document))

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        return await self._lists.search(query, size, start)

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        return await self._lists.events(user_id, size, start)

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        return await self._attempts.read(counters)

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        return await self._attempts.count(counters)

    async def sweep(self) -> int:
        return await self._repairs.sweep()

    async def ping(self) -> None:
        await self._api.ping()

    async def close(self) -> None:
        await self._background.close()
        self._reads.close()
        await self._api.close()

    async def _change(self, user_id: UUID, change: Change, event: Event | None) -> tuple[Account, Document]:
        """Applies a change. Returns the account and its document after the change."""
        document = await self._api.update_document(
            document_id(user_id), lambda: update_for(change, event), image="after"
        )
        changed = read_account(document)
        if document is None:
            raise UserNotFound
        if changed is None:
            # It was deleted a moment ago, and our update has just written to it: erase that again.
            ineffective = event.event_id if event else None
            await self._try(self._projections.project(document, ineffective=ineffective))
            raise UserNotFound
        if not was_accepted(change, document):
            self._project(document)
            raise InvalidCredentials
        return changed, document

    @asynccontextmanager
    async def _removed_from_guard(self, account: Account, *, force: bool) -> AsyncIterator[None]:
        """Removes an account from the moderators guard before the body changes the account.

        If the body fails, the account is added again in the background if it is still a moderator.
        """
        was_moderator = await self._moderators.remove(account, force=force)
        try:
            yield
        except (ServiceError, asyncio.CancelledError):
            if was_moderator:  # it may still be one
                self._background.start("settle guard", lambda: self._moderators.settle(account.user_id))
            raise

    async def _try(self, step: Awaitable[object]) -> bool:
        """Runs a step that a sweep would otherwise finish. Returns whether it succeeded."""
        try:
            await step
        except StoreUnavailable:
            return False
        return True

    def _project(self, document: Document, ineffective: UUID | None = None) -> None:
        self._background.start("project", lambda: self._projections.project(document, ineffective=ineffective))
