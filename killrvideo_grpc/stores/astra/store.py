"""Accounts on Astra DB or any Data API: one document each, changed by compare-and-set (docs/accounts.md).

accounts.py writes changes and recovers from lost answers, claims.py gives an address one owner, moderator_index.py
protects the last moderator, projections.py writes rows and events, and sweep.py finishes what crashes left.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from killrvideo_grpc.domain.account import NIL_UUID, Account, Credentials
from killrvideo_grpc.domain.changes import Change
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, UnusableStore
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.domain.ports import AttemptCounter, Page
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.domain.services import Services, ServicesChange
from killrvideo_grpc.stores.astra import services
from killrvideo_grpc.stores.astra.accounts import AccountChange, Outcome
from killrvideo_grpc.stores.astra.address_change import AddressChange, account_exists
from killrvideo_grpc.stores.astra.attempts import Attempts
from killrvideo_grpc.stores.astra.background import Background, Task
from killrvideo_grpc.stores.astra.claims import Claims, claim_id, owner_of
from killrvideo_grpc.stores.astra.document import (
    PREFIX,
    PROJECT,
    PROJECT_TWICE,
    document_id,
    is_deleted,
    new_document,
    read_account,
    read_credentials,
    user_id_of,
    uses_claim,
)
from killrvideo_grpc.stores.astra.imports import Imports
from killrvideo_grpc.stores.astra.moderator_index import ModeratorIndex
from killrvideo_grpc.stores.astra.projections import Projections
from killrvideo_grpc.stores.astra.queries import Queries, read_accounts
from killrvideo_grpc.stores.astra.revisions import DocumentLocks, until_written
from killrvideo_grpc.stores.astra.sweep import UNREADABLE, Repaired, Sweep
from killrvideo_grpc.stores.data_api.batch_loader import BatchLoader
from killrvideo_grpc.stores.data_api.client import DataApi, Document
from killrvideo_grpc.stores.data_api.errors import AlreadyExists


class AstraStore:
    """Implements `AccountStore`."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._reads = BatchLoader(api.find_documents, api.max_wait, api.instrumentation)
        self._locks = DocumentLocks()
        self._claims = Claims(api)
        self._index = ModeratorIndex(api)
        self._projections = Projections(api, self._locks, self._claims, self._index)
        self._lists = Queries(api)
        self._imports = Imports(api, self._claims, self._projections)
        self._attempts = Attempts(api)
        self._sweep = Sweep(api, self._claims, self._index, self._projections)
        self._background = Background()

    async def register(self, account: Account, password_hash: str, cause: Cause) -> None:
        document = new_document(account, password_hash, cause.registration(account))
        inserted = False

        async def step() -> bool | None:
            """Return whether the account got its address; None if another writer of the claim came first."""
            nonlocal inserted
            claim = await self._claims.find(document["claim"])
            owner = owner_of(claim)
            if owner == account.user_id:
                return True
            if owner and await account_exists(self._api, owner):
                return False
            if not inserted:
                await self._insert(document)
                inserted = True
            return await self._claims.set_owner(document["claim"], claim, account.user_id) or None

        self._api.fail_if_down()
        try:
            async with self._api.within("register"), self._claims.locks.of(document["claim"]):
                is_owner = await until_written(step)
        except BaseException:  # also a cancellation: the address may have been claimed
            if inserted:
                self._background.start(document["_id"], lambda: self._finish_registration(document))
            raise
        if is_owner:
            self._project(document)
            return
        if inserted:
            self._background.start(document["_id"], lambda: self._api.delete_document(document["revision"]))
        raise EmailAlreadyRegistered

    async def _finish_registration(self, document: Document) -> None:
        """Project a new account if it got its address. Otherwise, a sweep removes it."""
        if owner_of(await self._claims.find(document["claim"])) == user_id_of(document):
            await self._projections.project(document["_id"])

    async def find_credentials(self, email: str) -> Credentials | None:
        claim = claim_id(email)
        async with self._api.within("find credentials"):
            # Reads a document even if nobody owns the address, so that timing doesn't reveal that.
            owner = owner_of(await self._claims.find(claim)) or NIL_UUID
            document = await self._api.find_document(document_id(owner), with_hash=True)
        return read_credentials(document) if uses_claim(document, claim) else None

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        return read_credentials(await self._api.find_document(document_id(user_id), with_hash=True))

    async def get(self, user_id: UUID) -> Account | None:
        self._api.fail_if_down()
        return read_account(await self._reads.get(document_id(user_id)))

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        return await read_accounts(self._api, set(user_ids))

    async def apply(
        self, user_id: UUID, change: Change, cause: Cause, *, seen: Account | None = None, force: bool = False
    ) -> Account:
        self._api.fail_if_down()
        attempt = AccountChange(self._api, self._index, user_id, change, cause, force=force)
        try:
            async with self._api.within("apply"):
                outcome = await attempt.run(self._locks, seen)
        except BaseException:  # also a cancellation: the account or the index may have been written
            if attempt.may_have_written:
                self._background.start(user_id, lambda: self._index.reconcile(user_id))
                self._background.start(document_id(user_id), lambda: self._projections.project(document_id(user_id)))
            if attempt.addresses:
                self._background.start(attempt.addresses, attempt.addresses.reconcile)
            raise
        await self._follow_up(user_id, outcome, attempt.addresses)
        return outcome.account

    async def _follow_up(self, user_id: UUID, outcome: Outcome, addresses: AddressChange | None) -> None:
        """Start what follows a change, and wait a moment for what the next call may rely on."""
        relied_on = []
        if addresses:
            relied_on.append(self._background.start(addresses, addresses.reconcile))
        if outcome.joins or outcome.leaves:
            index, joins = outcome.index, outcome.joins
            job = self._background.start(user_id, lambda: self._index.reconcile(user_id, index, is_moderator=joins))
            relied_on += [job] if joins else []
        job = self._project(outcome.document)
        relied_on += [job] if is_deleted(outcome.document) else []
        await self._background.wait(relied_on)

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        return await self._lists.search(query, size, start)

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        return await self._lists.events(user_id, size, start)

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        return await self._attempts.read(counters)

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        return await self._attempts.count(counters)

    async def read_services(self) -> Services:
        return await services.read_services(self._api)

    async def change_services(self, change: ServicesChange) -> None:
        await services.change_services(self._api, change)

    async def import_accounts(
        self, accounts: Sequence[ImportedAccount], *, dry_run: bool = False
    ) -> Sequence[ImportOutcome]:
        return await (self._imports.foresee(accounts) if dry_run else self._imports.run(accounts))

    async def all_credentials(self) -> AsyncIterator[Sequence[Credentials]]:
        async for page in self._api.document_pages({}, with_hashes=True):
            documents = [document for document in page if str(document["_id"]).startswith(PREFIX)]
            yield [credentials for document in documents if (credentials := _read_whole(document))]

    async def sweep(self, at: datetime | None = None) -> int:
        return await self._sweep.sweep(at)

    async def repair(self, at: datetime | None = None) -> Repaired:
        """Read every account and claim, and repair what is inconsistent. `at` defaults to now."""
        return await self._sweep.repair(at)

    async def ping(self) -> None:
        await self._api.ping()

    async def finish(self) -> None:
        """Wait until no background work is left."""
        await self._background.finish()

    async def close(self) -> None:
        await self._background.close()
        self._reads.close()
        await self._api.close()

    async def _insert(self, document: Document) -> None:
        try:
            await self._api.insert_document(document)
        except AlreadyExists:
            pass  # by the first try, whose answer was lost

    def _project(self, document: Document) -> Task | None:
        key = document["_id"]
        if document.get("pending") not in (PROJECT, PROJECT_TWICE):
            return None
        return self._background.start(key, lambda: self._projections.project(key, document))


def _read_whole(document: Document) -> Credentials | None:
    """Return an account with its hash; None if it was deleted. Raise UnusableStore if it can't be read."""
    try:
        return read_credentials(document)
    except UNREADABLE:
        raise UnusableStore(f"the document {document['_id']} can't be read") from None
