"""The claims on both addresses while an account changes from one to the other.

A change marks both claims `pending` for its account, writes the account, then reconciles both. The address that the
account names is the one that it logs in with. After a crash, a sweep reconciles what is pending.
"""

from uuid import UUID

from killrvideo_grpc.domain.errors import EmailAlreadyRegistered
from killrvideo_grpc.stores.astra.claims import owner_of, with_owner
from killrvideo_grpc.stores.astra.document import (
    document_id,
    is_deleted,
    uses_claim,
    with_new_revision,
)
from killrvideo_grpc.stores.astra.revisions import until_written, write
from killrvideo_grpc.stores.data_api.client import DataApi, Document


class AddressChange:
    """The claims that one change of an account has marked, over all its tries."""

    def __init__(self, api: DataApi, user_id: UUID) -> None:
        self._api = api
        self._user_id = user_id
        self._touched: set[str] = set()
        self._marked: dict[str, Document] = {}  # by `_id`, as this change wrote them last
        self._new: str | None = None  # the claim that the written account names

    async def mark(self, old: str | None, new: str) -> bool:
        """Mark both claims, after the account was read. Return False if another writer came first.

        Raise EmailAlreadyRegistered.
        """
        found = await self._api.find_documents([key for key in (old, new) if key])
        owner = owner_of(found.get(new))
        if owner and owner != self._user_id and await account_exists(self._api, owner):
            raise EmailAlreadyRegistered
        if old and owner_of(found.get(old)) == self._user_id and not await self._mark(old, found[old]):
            return False
        return await self._mark(new, found.get(new))

    async def _mark(self, key: str, claim: Document | None) -> bool:
        marked = with_owner(key, claim, self._user_id, pending=True)
        self._touched.add(key)
        if not await write(self._api, claim, marked):
            return False
        self._marked[key] = marked
        return True

    def note_written(self, new: str) -> None:
        """Remember that the account was written, with the claims as marked, and names this one."""
        self._new = new

    async def reconcile(self) -> None:
        """Keep the claim that the account names, and free the other.

        Whoever has written a claim since reconciles it: the write of the account made older changes fail.
        """
        for key in sorted(self._touched):
            claim = self._marked.get(key)
            if self._new is None or claim is None:
                await reconcile_claim(self._api, key)
            else:
                owner = self._user_id if key == self._new else None
                await write(self._api, claim, with_owner(key, claim, owner))


async def account_exists(api: DataApi, user_id: UUID) -> bool:
    """Return whether there is an account with this id that isn't deleted."""
    document = await api.find_document(document_id(user_id), fields=["status"])
    return document is not None and not is_deleted(document)


async def reconcile_claim(api: DataApi, key: str) -> bool:
    """Free an address unless its owner's account names it, and end its change. Return whether it was freed.

    Write the account between reading and writing the claim, so that a change under way fails and marks the claim anew.
    """

    async def step() -> bool | None:
        claim = await api.find_document(key)
        owner = owner_of(claim)
        if claim is None or (owner is None and "pending" not in claim):
            return False
        document = await api.find_document(document_id(owner)) if owner else None
        is_named = uses_claim(document, key)
        if document and not is_deleted(document) and not await write(api, document, with_new_revision(document)):
            return None
        is_written = await write(api, claim, with_owner(key, claim, owner if is_named else None))
        return (owner is not None and not is_named) if is_written else None

    return await until_written(step)
