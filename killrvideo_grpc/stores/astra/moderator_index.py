"""The moderators guard: a document in `accounts` that lists the active moderators, so that the last one stays.

    _id    guard:moderators
    ids    {user id: true}

The guard and the accounts are separate documents, so a crash can separate their writes. A promotion writes the account
first, a demotion the guard first, so a crash in between never leaves an account in the guard that is no moderator. It
can leave a moderator out of the guard; until `schema check --repair` adds them, some demotions are refused needlessly.
A moderator can only be removed if at least one other account in the guard is a moderator according to its document.
"""

from uuid import UUID

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.errors import LastModerator
from killrvideo_grpc.stores.astra.document import document_id, shows_moderator
from killrvideo_grpc.stores.data_api.client import DataApi, Document

GUARD = "guard:moderators"
ROUNDS = 5  # tries; if an account changes even more often, those changes settle it


class Moderators:
    """Keeps the guard consistent with the accounts."""

    def __init__(self, api: DataApi) -> None:
        self._api = api

    async def members(self) -> set[str]:
        """Returns the user ids in the guard."""
        return _ids(await self._api.find_document(GUARD))

    async def remove(self, account: Account, *, force: bool) -> bool:
        """Removes an account from the guard before it is demoted, suspended or deleted.

        Returns whether it was a moderator. If it was the only one and `force` is not set, puts it back and raises
        LastModerator.
        """
        before = await self._remove(account.user_id)
        # `before` alone is not enough: a new moderator may not be in the guard yet, and if the update was repeated
        # after a lost answer, `before` is already without the account.
        was_moderator = account.is_active_moderator or str(account.user_id) in before
        if was_moderator and not force and not await self._has_moderator(before - {str(account.user_id)}):
            await self.settle(account.user_id, is_moderator=True)
            raise LastModerator
        return was_moderator

    async def _has_moderator(self, user_ids: set[str]) -> bool:
        """Returns whether any of these accounts is a moderator according to its document.

        The guard can list accounts that are not: one that was demoted while being promoted, or one whose promotion
        timed out here but was carried out by the Data API later.
        """
        keys = [document_id(UUID(user_id)) for user_id in sorted(user_ids)]
        for start in range(0, len(keys), 100):
            found = await self._api.find_documents(keys[start : start + 100])
            if any(map(shows_moderator, found.values())):
                return True
        return False

    async def settle(self, user_id: UUID, *, is_moderator: bool | None = None) -> None:
        """Adds the account to the guard if it is an active moderator, and removes it if it is not.

        `is_moderator` is whether it was one a moment ago, if known. The account is read again after each write of the
        guard, because another call may have changed both in between.
        """
        if is_moderator is None:
            is_moderator = await self._is_moderator(user_id)
        for _ in range(ROUNDS):
            await (self._add(user_id) if is_moderator else self._remove(user_id))
            if await self._is_moderator(user_id) == is_moderator:
                return
            is_moderator = not is_moderator

    async def _is_moderator(self, user_id: UUID) -> bool:
        return shows_moderator(await self._api.find_document(document_id(user_id)))

    async def _add(self, user_id: UUID) -> None:
        await self._api.update_document(GUARD, {"$set": {f"ids.{user_id}": True}}, image="after", upsert=True)

    async def _remove(self, user_id: UUID) -> set[str]:
        update = {"$unset": {f"ids.{user_id}": ""}}
        return _ids(await self._api.update_document(GUARD, update, image="before"))


def _ids(guard: Document | None) -> set[str]:
    return set((guard or {}).get("ids") or ())
