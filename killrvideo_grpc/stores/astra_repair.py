"""Finishes what crashed processes left half done. Safe to repeat, and to run in several processes at once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.stores.account_documents import PREFIX, is_deleted, is_erased, shows_moderator, user_id_of
from killrvideo_grpc.stores.data_api import USERS, DataApi, Document
from killrvideo_grpc.stores.data_api_errors import RequestRefused
from killrvideo_grpc.stores.email_claims import CLAIM_PREFIX, EmailClaims, owner_of
from killrvideo_grpc.stores.moderators import Moderators
from killrvideo_grpc.stores.projections import Projections, is_projected_in

# A registration takes seconds. What is younger than this may be one under way.
ORPHAN_AGE = timedelta(hours=1)

_log = structlog.get_logger("killrvideo_grpc.stores.astra")


@dataclass(slots=True)
class Repaired:
    """How many accounts were repaired, and how.

    `orphans` were deleted: accounts that never came to own their address. `finished` lacked events or a current row.
    `moderators` were not counted as such, or were and should not have been. `claims` are addresses that were freed,
    since the account that owned them does not exist.
    """

    orphans: int = 0
    claims: int = 0
    finished: int = 0
    moderators: int = 0


class Repairs:
    """Looks for accounts that were left half done: those marked `pending`, or in a repair, all."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._claims = EmailClaims(api)
        self._moderators = Moderators(api)
        self._projections = Projections(api, self._claims)

    async def sweep(self, at: datetime | None = None) -> int:
        """Finishes the accounts that are marked `pending`, and returns how many those were.

        Accounts that were deleted in the last minutes are erased once more, and don't count.
        """
        repaired = Repaired()
        async for page in self._api.document_pages({"pending": {"$exists": True}}):
            await self._finish(page, repaired, at or now())
        if repaired.finished or repaired.orphans:
            _log.info("swept", count=repaired.finished, orphans=repaired.orphans)
        return repaired.finished

    async def repair(self, at: datetime | None = None) -> Repaired:
        """Reads every account and repairs it; `at` is the present unless given.

        Raises StoreUnavailable.
        """
        repaired = Repaired()
        async for page in self._api.document_pages({}):
            accounts = [document for document in page if str(document["_id"]).startswith(PREFIX)]
            claims = [document for document in page if str(document["_id"]).startswith(CLAIM_PREFIX)]
            await self._finish(accounts, repaired, at or now())
            await self._rewrite_rows(accounts, repaired)
            await self._count_moderators(accounts, repaired)
            await self._free_claims(claims, repaired)
        return repaired

    async def _rewrite_rows(self, page: list[Document], repaired: Repaired) -> None:
        # Whoever writes an older state of an account over a newer one notices and writes the newer one, but may crash
        # in between. Sweeps don't look for that, because it takes a comparison of every row with its account.
        documents = {user_id_of(document): document for document in page if not document.get("pending")}
        if not documents:
            return
        rows, _ = await self._api.row_page(USERS, {"userid": {"$in": list(documents)}})
        found = {row["userid"]: row for row in rows}
        for user_id, document in documents.items():
            if not is_projected_in(found.get(user_id), document):
                await self._projections.project(document)
                repaired.finished += 1

    async def _count_moderators(self, page: list[Document], repaired: Repaired) -> None:
        # Not a sweep's work: while a moderator is being demoted, the guard does not count them for a moment. To count
        # them again then could let the last other moderator go.
        missing = {str(user_id_of(document)) for document in page if shows_moderator(document)}
        missing -= await self._moderators.counted() if missing else set()
        for user_id in missing:
            await self._moderators.settle(UUID(user_id), counts=True)
            repaired.moderators += 1

    async def _free_claims(self, page: list[Document], repaired: Repaired) -> None:
        # An account is written before its claim, so one that is missing was removed, and will not come back. One that
        # was deleted released its address, and may own it again if a request that claimed it was carried out late.
        owners = {owner: claim["_id"] for claim in page if (owner := owner_of(claim["log"]))}
        found = await self._api.find_documents([PREFIX + owner for owner in owners]) if owners else {}
        for owner, claim in owners.items():
            account = found.get(PREFIX + owner)
            if account is None or is_deleted(account):
                await self._claims.release(claim, UUID(owner))
                repaired.claims += 1

    async def _finish(self, page: list[Document], repaired: Repaired, at: datetime) -> None:
        counted = await self._moderators.counted() if page else set[str]()
        for document in page:
            try:
                await self._finish_one(document, counted, repaired, at)
            # An account that can't be finished must not keep the others from it.
            except RequestRefused as error:
                _log.error("left unfinished", document=document["_id"], cause=error.code)
            except (AttributeError, LookupError, TypeError, ValueError) as error:  # it has not the form that we write
                _log.error("left unfinished", document=document["_id"], cause=type(error).__name__)

    async def _finish_one(self, document: Document, counted: set[str], repaired: Repaired, at: datetime) -> None:
        if not await self._is_registered(document):
            if document["created_date"] < at - ORPHAN_AGE:
                await self._api.delete_document(document["_id"])
                repaired.orphans += 1
            return
        user_id = user_id_of(document)
        if str(user_id) in counted and not shows_moderator(document):
            await self._moderators.settle(user_id, counts=False)
            repaired.moderators += 1
        if document.get("pending"):
            await self._projections.project(document, at=at)
            repaired.finished += not is_erased(document)

    async def _is_registered(self, document: Document) -> bool:
        # A new account that has not claimed its address is under way, or was left by a crash. Neither gets a row.
        # Any other account was found by its address, or logged in to, so it owned one.
        if document["version"] > 1 or is_deleted(document) or not document.get("pending"):
            return True
        return await self._claims.find_owner(document["email"]) == user_id_of(document)
