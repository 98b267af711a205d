"""Imports: new accounts under ids that were given elsewhere.

As for a registration, the account comes first, then the claim. But an account with this id may be there already, whole
or as a crash left it.
"""

import asyncio
from collections.abc import Sequence

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.stores.astra.address_change import reconcile_claim
from killrvideo_grpc.stores.astra.claims import Claims, claim_id, owner_of
from killrvideo_grpc.stores.astra.document import (
    PROJECT,
    PROJECT_TWICE,
    document_id,
    is_deleted,
    new_document,
    uses_claim,
)
from killrvideo_grpc.stores.astra.projections import Projections
from killrvideo_grpc.stores.astra.revisions import new_revision, until_written, write
from killrvideo_grpc.stores.data_api.client import DataApi, Document
from killrvideo_grpc.stores.data_api.errors import AlreadyExists, Conflict

MAX_CONCURRENT = 8  # accounts, so that each gets its requests through in time

Documents = dict[str, Document]  # documents by `_id`


class Imports:
    """Imports accounts in batches, and projects them."""

    def __init__(self, api: DataApi, claims: Claims, projections: Projections) -> None:
        self._api = api
        self._claims = claims
        self._projections = projections

    async def run(self, accounts: Sequence[ImportedAccount]) -> list[ImportOutcome]:
        """Import the accounts concurrently. If any fails, raise its error once the others are done."""
        found = await self._find(accounts)
        permits = asyncio.Semaphore(MAX_CONCURRENT)

        async def work(account: ImportedAccount) -> ImportOutcome:
            async with permits:
                return await _Import(self._api, self._claims, self._projections, account).run(found)

        outcomes = await asyncio.gather(*map(work, accounts), return_exceptions=True)
        return [_or_raise(outcome) for outcome in outcomes]

    async def foresee(self, accounts: Sequence[ImportedAccount]) -> list[ImportOutcome]:
        """Return what importing each of the accounts alone would lead to."""
        found = await self._find(accounts)
        owners = {owner for document in found.values() if "owner" in document and (owner := owner_of(document))}
        live = await self._api.find_documents([document_id(owner) for owner in owners]) if owners else {}
        return [_foreseen(account, found, live) for account in accounts]

    async def _find(self, accounts: Sequence[ImportedAccount]) -> Documents:
        """Return the accounts with these ids and the claims on these addresses, in one request."""
        keys = {key for account in accounts for key in _keys(account)}
        return await self._api.find_documents(keys) if keys else {}


class _Import:
    """One import, over all its tries."""

    def __init__(self, api: DataApi, claims: Claims, projections: Projections, account: ImportedAccount) -> None:
        self._api = api
        self._claims = claims
        self._projections = projections
        self._keys = _keys(account)
        self._user_id = account.credentials.account.user_id
        self._new = new_document(account.credentials.account, account.credentials.password_hash, account.event)
        self._existing: Document = self._new
        self._is_inserted = False

    async def run(self, found: Documents) -> ImportOutcome:
        known: Documents | None = found

        async def step() -> ImportOutcome | None:
            nonlocal known
            documents, known = known if known is not None else await self._api.find_documents(self._keys), None
            return await self._step(documents)

        async with self._api.within("import"):
            outcome = await until_written(step)
        is_new = outcome is ImportOutcome.IMPORTED
        is_unfinished = outcome is ImportOutcome.EXISTS and self._existing.get("pending") in (PROJECT, PROJECT_TWICE)
        if is_new or is_unfinished:
            await self._projections.project(self._new["_id"], self._new if is_new else None)
        return outcome

    async def _step(self, found: Documents) -> ImportOutcome | None:
        """Return the outcome, or None if another writer came first."""
        existing = found.get(self._new["_id"])
        if existing is None:
            if await self._is_taken(found.get(self._new.get("claim", ""))):
                return ImportOutcome.EMAIL_TAKEN
            try:
                await self._api.insert_document(self._new)
            except AlreadyExists:
                return None
            self._is_inserted = True
            existing = self._new
        self._existing = existing
        if is_deleted(existing):
            return ImportOutcome.DELETED
        is_ours = self._is_inserted or self._new["revision"] in (existing["revision"], *existing["recent"])
        outcome = ImportOutcome.IMPORTED if is_ours else ImportOutcome.EXISTS
        key = existing.get("claim")
        if key is None or (key not in self._keys and existing["recent"]):
            return outcome  # it has no address, or another one by now
        return await self._claim(
            existing, found.get(key) if key in self._keys else await self._claims.find(key), outcome
        )

    async def _claim(self, existing: Document, claim: Document | None, outcome: ImportOutcome) -> ImportOutcome | None:
        """Claim the address of an account, as it was read, unless that was done."""
        if owner_of(claim) == self._user_id:
            return outcome
        if await self._is_taken(claim):
            if existing["recent"]:
                return outcome  # it was changed since, so it is no leftover
            await self._api.delete_document(existing["revision"])
            return ImportOutcome.EMAIL_TAKEN if existing["claim"] == self._new.get("claim") else None
        if outcome is ImportOutcome.EXISTS and not existing["recent"]:
            # Left by a crash: keep a sweep from removing it meanwhile.
            kept = existing | {"revision": new_revision(), "written": now()}
            if not await write(self._api, existing, kept):
                return None
        return outcome if await self._claims.set_owner(existing["claim"], claim, self._user_id) else None

    async def _is_taken(self, claim: Document | None) -> bool:
        """Return whether another account has the address. Raise Conflict after settling a claim that a crash left."""
        owner = owner_of(claim)
        if claim is None or owner is None or owner == self._user_id:
            return False
        document = await self._api.find_document(document_id(owner), fields=["status", "claim"])
        if uses_claim(document, claim["_id"]):
            return True
        if document and not is_deleted(document):
            await reconcile_claim(self._api, claim["_id"])
            raise Conflict
        return False


def _keys(account: ImportedAccount) -> list[str]:
    read = account.credentials.account
    return [document_id(read.user_id), *([claim_id(read.email)] if read.email else [])]


def _foreseen(account: ImportedAccount, found: Documents, live: Documents) -> ImportOutcome:
    key, *claims = _keys(account)
    if key in found:
        return ImportOutcome.DELETED if is_deleted(found[key]) else ImportOutcome.EXISTS
    for claim in claims:
        owner = owner_of(found.get(claim))
        if owner and uses_claim(live.get(document_id(owner)), claim):
            return ImportOutcome.EMAIL_TAKEN
    return ImportOutcome.IMPORTED


def _or_raise(outcome: ImportOutcome | BaseException) -> ImportOutcome:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
