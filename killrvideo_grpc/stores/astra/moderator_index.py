"""The index of active moderators, which protects the last one.

_id        index:moderators
revision   new at each write
ids        user ids: a subset of the active moderators
leaving    user ids whose demotion, suspension or deletion is not finished
pending    true while `leaving` is not empty, for the sweep

A promotion reads the index, writes the account, then writes the index. A demotion reads the account, writes the index,
then writes the account, and starts again with the index if the account has changed.
"""

from uuid import UUID

from killrvideo_grpc.domain.errors import LastModerator
from killrvideo_grpc.stores.astra.document import document_id, is_active_moderator, with_new_revision
from killrvideo_grpc.stores.astra.revisions import DocumentLocks, new_revision, until_written, write
from killrvideo_grpc.stores.data_api.client import DataApi, Document

INDEX_ID = "index:moderators"


def read_index(document: Document | None) -> Document:
    """Return the index, or an empty one without a revision if there is none yet."""
    return document or {"_id": INDEX_ID, "ids": [], "leaving": []}


class ModeratorIndex:
    """Keeps the index consistent with the accounts."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._locks = DocumentLocks()

    async def read(self) -> Document:
        """Return the index."""
        return read_index(await self._api.find_document(INDEX_ID))

    async def remove(self, user_id: UUID, index: Document | None, *, force: bool) -> Document:
        """Remove an account before its demotion, and return the index. `index`, as just read, saves a read.

        Write even if it isn't listed, so that a concurrent promotion of it fails. Raise LastModerator.
        """
        member, known = str(user_id), index

        async def step() -> Document | None:
            nonlocal known
            seen, known = known or await self.read(), None
            ids = set(seen["ids"]) - {member}
            if not ids and not force:
                raise LastModerator
            return await self._replace(seen, ids, {*seen["leaving"], member})

        async with self._locks.of(INDEX_ID):
            return await until_written(step)

    async def reconcile(self, user_id: UUID, index: Document | None = None, *, is_moderator: bool = False) -> bool:
        """List the account if it is an active moderator, and end its demotion. Return whether the index had to change.

        An `index` must have been read before the caller wrote the account, which left it as `is_moderator` says.
        """
        member, known = str(user_id), index

        async def step() -> bool | None:
            nonlocal known
            seen, known, listed = known, None, is_moderator
            if seen is None:
                seen = await self.read()  # before the account, so that a promotion in between changes it
                document = await self._api.find_document(document_id(user_id))
                listed = is_active_moderator(document)
                if listed == (member in seen["ids"]) and member not in seen["leaving"]:
                    return False
                # Makes a concurrent demotion, which has read the account, fail.
                if document and listed and not await write(self._api, document, with_new_revision(document)):
                    return None
            ids = {*seen["ids"], member} if listed else set(seen["ids"]) - {member}
            return await self._replace(seen, ids, set(seen["leaving"]) - {member}) is not None or None

        async with self._locks.of(INDEX_ID):
            return await until_written(step)

    async def _replace(self, seen: Document, ids: set[str], leaving: set[str]) -> Document | None:
        """Return the index as written, or None if another writer came first."""
        new = {name: value for name, value in seen.items() if name != "pending"}
        new |= {"revision": new_revision(), "ids": sorted(ids), "leaving": sorted(leaving)}
        new |= {"pending": True} if leaving else {}
        return new if await write(self._api, seen if "revision" in seen else None, new) else None
