"""Finishes work that crashed processes left incomplete. Safe to repeat, and to run in several processes at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.stores.astra.claims import CLAIM_PREFIX, EmailClaims, owner_of
from killrvideo_grpc.stores.astra.document import (
    PREFIX,
    is_deleted,
    is_erased,
    read_account,
    shows_moderator,
    user_id_of,
)
from killrvideo_grpc.stores.astra.moderator_index import Moderators
from killrvideo_grpc.stores.astra.projections import Projections, row_is_current
from killrvideo_grpc.stores.data_api.client import USERS, DataApi, Document
from killrvideo_grpc.stores.data_api.errors import RequestRefused

# A registration takes seconds, so an unclaimed account older than this was left by a crash.
ORPHAN_AGE = timedelta(hours=1)
# The exceptions that reading a document in another format raises.
NOT_OURS = (AttributeError, LookupError, TypeError, ValueError)

_log = structlog.get_logger("killrvideo_grpc.stores.astra")


@dataclass(slots=True)
class Repaired:
    """What was repaired, as counts.

    `orphans`: accounts that never owned their address, now deleted. `claims`: addresses freed because the account that
    owned them doesn't exist. `finished`: accounts whose events or row were missing or out of date. `moderators`:
    accounts added to or removed from the moderators guard. `failed`: documents that can't be read or finished.
    """

    orphans: int = 0
    claims: int = 0
    finished: int = 0
    moderators: int = 0
    failed: int = 0


class Repairs:
    """Finds incomplete accounts and finishes them. A sweep reads those marked `pending`; a repair reads all."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._claims = EmailClaims(api)
        self._moderators = Moderators(api)
        self._projections = Projections(api, self._claims)

    async def sweep(self, at: datetime | None = None) -> int:
        """Finishes the accounts marked `pending`. Returns their number, including those that can't be finished.

        Accounts deleted within the last minutes are erased again, and not included in the number. `at` defaults to now.
        """
        repaired = Repaired()
        async for page in self._api.document_pages({"pending": {"$exists": True}}):
            await self._finish(page, repaired, at or now())
        if repaired.finished or repaired.orphans:
            _log.info("swept", count=repaired.finished, orphans=repaired.orphans)
        return repaired.finished + repaired.failed

    async def repair(self, at: datetime | None = None) -> Repaired:
        """Reads every account and claim, and repairs what is inconsistent. `at` defaults to now.

        Raises StoreUnavailable.
        """
        repaired = Repaired()
        async for page in self._api.document_pages({}):
            accounts = _readable(page, PREFIX, _check_account, repaired)
            claims = _readable(page, CLAIM_PREFIX, lambda claim: owner_of(claim["log"]), repaired)
            await self._finish(accounts, repaired, at or now())
            await self._rewrite_rows(accounts, repaired)
            await self._add_missing_moderators(accounts, repaired)
            await self._free_claims(claims, repaired)
        return repaired

    async def _rewrite_rows(self, page: list[Document], repaired: Repaired) -> None:
        # A process that overwrites a row with an older state notices and corrects it, but may crash before it does.
        # Sweeps don't look for such rows, because that takes comparing every row with its account.
        documents = {user_id_of(document): document for document in page if not document.get("pending")}
        if not documents:
            return
        rows, _ = await self._api.row_page(USERS, {"userid": {"$in": list(documents)}})
        found = {row["userid"]: row for row in rows}
        for user_id, document in documents.items():
            if not row_is_current(found.get(user_id), document):
                await self._projections.project(document)
                repaired.finished += 1

    async def _add_missing_moderators(self, page: list[Document], repaired: Repaired) -> None:
        # Too risky for regular sweeps: a moderator who is being demoted is removed from the guard first. Adding them
        # back at that moment could allow the last other moderator to be demoted as well.
        missing = {str(user_id_of(document)) for document in page if shows_moderator(document)}
        missing -= await self._moderators.members() if missing else set()
        for user_id in missing:
            await self._moderators.settle(UUID(user_id), is_moderator=True)
            repaired.moderators += 1

    async def _free_claims(self, page: list[Document], repaired: Repaired) -> None:
        # An account is written before its claim, so if the owner is missing, it was removed for good. A deleted account
        # released its address, but owns it again if a claim of its own that had timed out was carried out later.
        owners = {owner: claim["_id"] for claim in page if (owner := owner_of(claim["log"]))}
        found = await self._api.find_documents([PREFIX + owner for owner in owners]) if owners else {}
        for owner, claim in owners.items():
            account = found.get(PREFIX + owner)
            if account is None or is_deleted(account):
                await self._claims.release(claim, UUID(owner))
                repaired.claims += 1

    async def _finish(self, page: list[Document], repaired: Repaired, at: datetime) -> None:
        members = await self._moderators.members() if page else set[str]()
        for document in page:
            try:
                await self._finish_one(document, members, repaired, at)
            # One account that can't be finished must not stop the others from being finished.
            except (RequestRefused, *NOT_OURS) as error:
                _leave(document, error, repaired)

    async def _finish_one(self, document: Document, members: set[str], repaired: Repaired, at: datetime) -> None:
        if not await self._is_registered(document):
            if document["created_date"] < at - ORPHAN_AGE:
                await self._api.delete_document(document["_id"])
                repaired.orphans += 1
            return
        user_id = user_id_of(document)
        if str(user_id) in members and not shows_moderator(document):
            await self._moderators.settle(user_id, is_moderator=False)
            repaired.moderators += 1
        if document.get("pending"):
            await self._projections.project(document, at=at)
            repaired.finished += not is_erased(document)

    async def _is_registered(self, document: Document) -> bool:
        # A new account that doesn't own its address is still being registered or was left by a crash; neither gets a
        # row. An account that was ever changed or finished must have owned its address before.
        if document["version"] > 1 or is_deleted(document) or not document.get("pending"):
            return True
        return await self._claims.find_owner(document["email"]) == user_id_of(document)


def _leave(document: Document, error: Exception, repaired: Repaired) -> None:
    """Logs and counts a document that can't be read or finished."""
    cause = error.code if isinstance(error, RequestRefused) else type(error).__name__
    _log.error("left unfinished", document=document["_id"], cause=cause)
    repaired.failed += 1


def _check_account(document: Document) -> None:
    user_id_of(document)
    read_account(document)


def _readable(
    page: list[Document], prefix: str, read: Callable[[Document], object], repaired: Repaired
) -> list[Document]:
    """Returns the documents with this prefix that `read` can read. Logs and counts the others."""
    documents = []
    for document in page:
        if str(document["_id"]).startswith(prefix):
            try:
                read(document)
            except NOT_OURS as error:
                _leave(document, error, repaired)
            else:
                documents.append(document)
    return documents
