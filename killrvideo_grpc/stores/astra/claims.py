"""Claims on e-mail addresses. They outlast the accounts, so their keys are digests.

_id        email:<SHA-256 of the normal form>
revision   new at each write
owner      user id of the account that claimed the address, or null
pending    true while its owner is changing addresses, for the sweep

A claim counts only while its owner exists and isn't deleted. Its owner logs in with it only while the account names it.
"""

import hashlib
from uuid import UUID

from killrvideo_grpc.domain.account import normal_email
from killrvideo_grpc.stores.astra.revisions import DocumentLocks, new_revision, until_written, write
from killrvideo_grpc.stores.data_api.client import DataApi, Document

CLAIM_PREFIX = "email:"


def claim_id(email: str) -> str:
    """Return the `_id` of the claim on an address in any spelling."""
    return f"{CLAIM_PREFIX}{hashlib.sha256(normal_email(email).encode('utf-8', 'surrogatepass')).hexdigest()}"


def owner_of(claim: Document | None) -> UUID | None:
    """Return the user id that a claim names."""
    return UUID(claim["owner"]) if claim and claim["owner"] else None


def with_owner(key: str, claim: Document | None, owner: UUID | None, *, pending: bool = False) -> Document:
    """Return the claim, with a new revision, for another owner."""
    kept = {name: value for name, value in (claim or {}).items() if name != "pending"}
    new = kept | {"_id": key, "revision": new_revision(), "owner": str(owner) if owner else None}
    return new | ({"pending": True} if pending else {})


class Claims:
    """The claims in the collection `accounts`."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self.locks = DocumentLocks()

    async def find(self, key: str) -> Document | None:
        """Return the claim with this `_id`."""
        return await self._api.find_document(key)

    async def set_owner(self, key: str, claim: Document | None, owner: UUID | None) -> bool:
        """Write the owner of a claim as it was read. Return False if another writer came first."""
        return await write(self._api, claim, with_owner(key, claim, owner))

    async def rewrite(self, claim: Document) -> bool:
        """Write a claim as it was read, so that late writes fail. Return False if another writer came first."""
        return await write(self._api, claim, claim | {"revision": new_revision()})

    async def release(self, key: str, user_id: UUID) -> None:
        """Free the address if this account owns it."""

        async def step() -> bool | None:
            claim = await self.find(key)
            return owner_of(claim) != user_id or await self.set_owner(key, claim, None) or None

        await until_written(step)
