"""E-mail claims: which account owns an address.

Each address that was ever claimed has a document in `accounts`:

    _id    email:<SHA-256 of the address in its normal form, in hexadecimal>
    log    claim:<user id>, release:<user id>, … in the order in which they were made

The log is append-only and is read from the beginning: the first account to claim a free address owns it. The document
outlives the accounts that owned the address, so it must not reveal the address.
"""

import hashlib
from collections.abc import Iterable
from uuid import UUID

from killrvideo_grpc.domain.account import normal_email
from killrvideo_grpc.stores.data_api.client import DataApi
from killrvideo_grpc.stores.data_api.errors import AlreadyExists

CLAIM_PREFIX = "email:"


def claim_id(email: str) -> str:
    """Returns the `_id` of the claim on an address, the same for all of its spellings."""
    return f"{CLAIM_PREFIX}{hashlib.sha256(normal_email(email).encode('utf-8', 'surrogatepass')).hexdigest()}"


def owner_of(log: Iterable[str]) -> str | None:
    """Returns the user id of the address's owner; None if it is free.

    The owner made the first claim after the last effective release. A release is effective only if its account owned
    the address.
    """
    owner = None
    for entry in log:
        verb, user_id = entry.split(":", 1)
        if verb == "claim" and owner is None:
            owner = user_id
        elif verb == "release" and owner == user_id:
            owner = None
    return owner


class EmailClaims:
    """Claims, releases and looks up addresses."""

    def __init__(self, api: DataApi) -> None:
        self._api = api

    async def find_log(self, email: str) -> list[str] | None:
        """Returns the log of an address; None if it was never claimed."""
        found = await self._api.find_document(claim_id(email))
        return found["log"] if found else None

    async def find_owner(self, email: str) -> UUID | None:
        """Returns the user id of the address's owner; None if it is free."""
        owner = owner_of(await self.find_log(email) or [])
        return UUID(owner) if owner else None

    async def claim(self, email: str, user_id: UUID, log: list[str] | None) -> bool:
        """Claims an address that was free when `log` was read. Returns whether the account owns it now.

        Repeating either write after a lost answer does no harm: the resulting log decides.
        """
        key, entry = claim_id(email), f"claim:{user_id}"
        if log is None:
            try:
                await self._api.insert_document({"_id": key, "log": [entry]})
            except AlreadyExists:  # claimed by another account, or by our first try if its answer was lost
                log = await self.find_log(email) or []
            else:
                return True
        if owner_of(log) is None:
            after = await self._api.update_document(key, {"$push": {"log": entry}}, image="after")
            log = after["log"] if after else []
        return owner_of(log) == str(user_id)

    async def release(self, key: str, user_id: UUID) -> None:
        """Frees the address whose claim has this `_id`, if the account owns it. Safe to repeat."""
        found = await self._api.find_document(key)
        if found and owner_of(found["log"]) == str(user_id):
            await self._api.update_document(key, {"$push": {"log": f"release:{user_id}"}}, image="after")
