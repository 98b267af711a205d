"""Sweeps, which finish what crashed processes left. Several processes can sweep at once."""

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.astra.address_change import reconcile_claim
from killrvideo_grpc.stores.astra.claims import CLAIM_PREFIX, Claims, owner_of
from killrvideo_grpc.stores.astra.document import (
    PREFIX,
    PROJECT_TWICE,
    SETTLE,
    document_id,
    is_active_moderator,
    read_account,
    read_outbox,
    user_id_of,
    uses_claim,
    with_new_revision,
)
from killrvideo_grpc.stores.astra.moderator_index import INDEX_ID, ModeratorIndex
from killrvideo_grpc.stores.astra.projections import Projections, row_of
from killrvideo_grpc.stores.astra.revisions import write
from killrvideo_grpc.stores.data_api.client import USERS, DataApi, Document, TableRow
from killrvideo_grpc.stores.data_api.errors import RequestRefused

# A registration takes seconds: an older account without its claim was left by a crash.
UNCLAIMED_AGE = timedelta(hours=1)
# Longer than a row can be late: requests end within seconds.
SETTLE_TIME = timedelta(minutes=5)
MAX_UNAVAILABLE = 5  # StoreUnavailable errors after which a sweep gives up
# Raised when reading a document in another format.
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)

_log = structlog.get_logger()


@dataclass(slots=True)
class Repaired:
    """What was repaired, as counts.

    `finished`: accounts projected. `unclaimed`: accounts deleted because they never got their address. `claims`:
    addresses that no account uses any more, now free. `moderators`: corrections of the moderator index. `failed`:
    documents that can't be read or finished, `unavailable`: those of them that failed with StoreUnavailable.
    """

    finished: int = 0
    unclaimed: int = 0
    claims: int = 0
    moderators: int = 0
    failed: int = 0
    unavailable: int = 0


class Sweep:
    """Finishes the documents marked `pending`, or all."""

    def __init__(self, api: DataApi, claims: Claims, index: ModeratorIndex, projections: Projections) -> None:
        self._api = api
        self._claims = claims
        self._index = index
        self._projections = projections

    async def sweep(self, at: datetime | None = None) -> int:
        """Finish the documents marked `pending`. Return how many accounts were projected or failed."""
        at, repaired = at or now(), Repaired()
        async for page in self._api.document_pages({"pending": {"$exists": True}}):
            for document in page:
                await _attempt(document, repaired, self._finish(document, at, repaired))
        if repaired.finished or repaired.unclaimed:
            _log.info("swept", count=repaired.finished, unclaimed=repaired.unclaimed)
        return repaired.finished + repaired.failed

    async def repair(self, at: datetime | None = None) -> Repaired:
        at, repaired = at or now(), Repaired()
        async for page in self._api.document_pages({}):
            rows = await self._rows_of(page)
            for document in page:
                key = str(document["_id"])
                if key == INDEX_ID:
                    await _attempt(document, repaired, self._reconcile_all(document, "ids", repaired))
                if "pending" in document:
                    await _attempt(document, repaired, self._finish(document, at, repaired))
                elif key.startswith(PREFIX):
                    await _attempt(document, repaired, self._repair_account(document, rows.get(key), repaired))
                elif key.startswith(CLAIM_PREFIX):
                    await _attempt(document, repaired, self._repair_claim(document, repaired))
        return repaired

    async def _finish(self, document: Document, at: datetime, repaired: Repaired) -> None:
        key = document["_id"]
        if key == INDEX_ID:
            await self._reconcile_all(document, "leaving", repaired)
            return
        if key.startswith(CLAIM_PREFIX):
            repaired.claims += await reconcile_claim(self._api, key)
            return
        read_account(document), read_outbox(document)  # raises if they can't be read
        if document["pending"] == SETTLE:
            if at - document["row_changed"] >= SETTLE_TIME:
                await self._projections.settle(document)
        elif "claim" in document and not document["recent"] and not await self._has_address(document):
            # It is being registered or imported, or was left by a crash.
            if at - document["written"] > UNCLAIMED_AGE:
                await self._remove_unclaimed(document)
                repaired.unclaimed += 1
        else:
            await self._projections.project(key)
            repaired.finished += 1

    async def _has_address(self, document: Document) -> bool:
        return owner_of(await self._claims.find(document["claim"])) == user_id_of(document)

    async def _reconcile_all(self, index: Document, field: str, repaired: Repaired) -> None:
        for member in {*index[field]}:
            repaired.moderators += await self._index.reconcile(UUID(member))

    async def _remove_unclaimed(self, document: Document) -> None:
        """Write the claim once more, so that a late claim fails, then delete the account."""
        key = document["claim"]
        claim = await self._claims.find(key)
        if owner_of(claim) == user_id_of(document):
            return
        is_fenced = await (self._claims.rewrite(claim) if claim else self._claims.set_owner(key, None, None))
        if is_fenced:
            await self._api.delete_document(document["revision"])

    async def _rows_of(self, page: list[Document]) -> dict[str, TableRow]:
        """Return the rows of the accounts in a page of documents, by the `_id` of the account."""
        user_ids = []
        for document in page:
            with suppress(ValueError):  # not the `_id` of an account
                user_ids.append(user_id_of(document))
        rows, _ = await self._api.row_page(USERS, {"userid": {"$in": user_ids}}) if user_ids else ([], None)
        return {document_id(row["userid"]): row for row in rows}

    async def _repair_account(self, document: Document, row: TableRow | None, repaired: Repaired) -> None:
        user_id, is_moderator = user_id_of(document), is_active_moderator(document)
        if not _agree(row_of(document), row):
            marked = with_new_revision(document) | {"pending": PROJECT_TWICE, "row_changed": now()}
            if await write(self._api, document, marked):
                await self._projections.project(document["_id"])
                repaired.finished += 1
        elif is_moderator and str(user_id) not in (await self._index.read())["ids"]:
            repaired.moderators += await self._index.reconcile(user_id)

    async def _repair_claim(self, claim: Document, repaired: Repaired) -> None:
        owner = owner_of(claim)
        account = await self._api.find_document(document_id(owner)) if owner else None
        if owner and not uses_claim(account, claim["_id"]):
            repaired.claims += await reconcile_claim(self._api, claim["_id"])


async def _attempt(document: Document, repaired: Repaired, work: Awaitable[None]) -> None:
    """Log and count a document that can't be read or finished. Raise StoreUnavailable after MAX_UNAVAILABLE."""
    try:
        await work
    except (StoreUnavailable, RequestRefused, *UNREADABLE) as error:
        cause = error.code if isinstance(error, RequestRefused) else type(error).__name__
        _log.error("left unfinished", document=document["_id"], cause=cause)
        repaired.failed += 1
        repaired.unavailable += isinstance(error, StoreUnavailable)
        if repaired.unavailable == MAX_UNAVAILABLE:
            raise


def _agree(expected: TableRow | None, row: TableRow | None) -> bool:
    """Return whether a row has the columns that other services read, or is rightly missing."""
    if expected is None or row is None:
        return expected is row
    return all((row[name] or "") == expected[name] for name in ("email", "firstname", "lastname", "account_status"))
