"""The guard that keeps the last moderator: a document in `accounts` that counts the active ones.

    _id    guard:moderators
    ids    {user id: true}

Accounts and guard are separate documents, so one of them is always written first. A new moderator's account is written
before the guard, and a leaving one's after it: whatever crashes in between, the guard counts nobody who is not a
moderator. One whom it does not count yet is added by `schema check --repair`; until then, more is refused than need be.
Before a moderator leaves, at least one other that the guard counts must also be one according to their account.
"""

from uuid import UUID

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.errors import LastModerator
from killrvideo_grpc.stores.account_documents import document_id, shows_moderator
from killrvideo_grpc.stores.data_api import DataApi, Document

GUARD = "guard:moderators"
ROUNDS = 5  # an account whose roles change faster is left to those who change them


class Moderators:
    """Keeps the guard in line with the accounts."""

    def __init__(self, api: DataApi) -> None:
        self._api = api

    async def counted(self) -> set[str]:
        """Returns the user ids that the guard counts."""
        return _ids(await self._api.find_document(GUARD))

    async def let_go(self, account: Account, *, force: bool) -> bool:
        """Stops counting an account that is about to be demoted, suspended or deleted; returns if it was a moderator.

        Raises LastModerator, unless `force` is set, when it is one and there is no other; it is counted again before
        that.
        """
        before = await self._discount(account.user_id)
        # `before` alone won't do: a moderator may not be counted yet, and a repeated request sees its own work.
        was_moderator = account.is_active_moderator or str(account.user_id) in before
        if was_moderator and not force and not await self._has_moderator(before - {str(account.user_id)}):
            await self.settle(account.user_id, counts=True)
            raise LastModerator
        return was_moderator

    async def _has_moderator(self, user_ids: set[str]) -> bool:
        """Says whether one of those that the guard counts is a moderator indeed.

        It may count somebody who is none: who was demoted while being promoted, or whose promotion was carried out by
        the Data API after it had been given up.
        """
        keys = [document_id(UUID(user_id)) for user_id in sorted(user_ids)]
        for start in range(0, len(keys), 100):
            found = await self._api.find_documents(keys[start : start + 100])
            if any(map(shows_moderator, found.values())):
                return True
        return False

    async def settle(self, user_id: UUID, *, counts: bool | None = None) -> None:
        """Counts the account if it is an active moderator, and stops counting it if it is none.

        `counts` says which of the two it was a moment ago. The account is looked at again after the guard was written,
        since somebody else may have changed both in between.
        """
        if counts is None:
            counts = await self._is_moderator(user_id)
        for _ in range(ROUNDS):
            await (self._count(user_id) if counts else self._discount(user_id))
            if await self._is_moderator(user_id) == counts:
                return
            counts = not counts

    async def _is_moderator(self, user_id: UUID) -> bool:
        return shows_moderator(await self._api.find_document(document_id(user_id)))

    async def _count(self, user_id: UUID) -> None:
        await self._api.update_document(GUARD, {"$set": {f"ids.{user_id}": True}}, image="after", upsert=True)

    async def _discount(self, user_id: UUID) -> set[str]:
        update = {"$unset": {f"ids.{user_id}": ""}}
        return _ids(await self._api.update_document(GUARD, update, image="before"))


def _ids(guard: Document | None) -> set[str]:
    return set((guard or {}).get("ids") or ())
