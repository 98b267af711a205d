"""A change of an account document: read, decide, compare and set, until it is written once."""

from dataclasses import dataclass, field, replace
from uuid import UUID

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import Change
from killrvideo_grpc.domain.errors import StoreUnavailable, UserNotFound
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.stores.astra.address_change import AddressChange
from killrvideo_grpc.stores.astra.document import document_after, document_id, read_account, with_new_revision
from killrvideo_grpc.stores.astra.moderator_index import INDEX_ID, ModeratorIndex, read_index
from killrvideo_grpc.stores.astra.revisions import DocumentLocks, until_written, write
from killrvideo_grpc.stores.data_api.client import DataApi, Document


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did. `account` is the account after it, or before it if it was deleted.

    `index` is the moderator index as it was last read or written, if the account `joins` or `leaves` it.
    """

    account: Account
    document: Document = field(repr=False)  # has the password hash
    joins: bool = False
    leaves: bool = False
    index: Document | None = None


class AccountChange:
    """One change, over all its tries.

    A write whose answer was lost is recognised by the recent revisions of the document, not by deciding again.
    """

    def __init__(
        self, api: DataApi, index: ModeratorIndex, user_id: UUID, change: Change, cause: Cause, *, force: bool
    ) -> None:
        self.may_have_written = False  # whether anything may have been written
        self.addresses: AddressChange | None = None  # if the change gives the account another address
        self._api = api
        self._index = index
        self._user_id = user_id
        self._change = change
        self._cause = cause
        self._force = force
        self._base: Document | None = None  # what the last try was based on
        self._tried: dict[str, Outcome] = {}  # by revision, the tries that may have been written

    async def run(self, locks: DocumentLocks, seen: Account | None) -> Outcome:
        """Make the change. `seen` saves a read, unless this process is changing the account already.

        Raise UserNotFound, LastModerator, EmailAlreadyRegistered, the errors of the change, and StoreUnavailable.
        """
        lock = locks.of(document_id(self._user_id))
        is_contended = lock.locked()
        known = seen.stored if seen and seen.user_id == self._user_id and not is_contended else None

        async def step() -> Outcome | None:
            nonlocal known
            document, index = (known, None) if isinstance(known, dict) else await self._read()
            known = None
            return self._find_written(document) or await self._write(document, index)

        async with lock:
            if is_contended:  # then it was written while this change waited
                known = lock.latest
            lock.latest = None
            outcome = await until_written(step)
            lock.latest = outcome.document
            return outcome

    async def _read(self) -> tuple[Document | None, Document]:
        """Read the account and the moderator index in one request."""
        key = document_id(self._user_id)
        found = await self._api.find_documents([key, INDEX_ID])
        return found.get(key), read_index(found.get(INDEX_ID))

    def _find_written(self, document: Document | None) -> Outcome | None:
        """Return the outcome of an earlier try, if it was written."""
        if not self._tried or not self._base or not document or document["revision"] == self._base["revision"]:
            return None
        revisions = {document["revision"], *document["recent"]}
        for revision in self._tried.keys() & revisions:
            return replace(self._tried[revision], document=document, index=None)
        if self._base["revision"] not in revisions:
            raise StoreUnavailable("outcome unknown")
        return None

    async def _write(self, document: Document | None, index: Document | None) -> Outcome | None:
        account = read_account(document)
        if document is None or account is None:
            raise UserNotFound
        transition = self._change.decide(account, self._cause)
        if transition.has_effect_on(account):
            new = document_after(document, account, transition)
        else:
            new = with_new_revision(document)  # makes an earlier, opposite change fail if it arrives late
        if new.get("claim") != document.get("claim") and not await self._mark_claims(document, new):
            return None
        joins, leaves = transition.gains_moderator(account), transition.loses_moderator(account)
        self.may_have_written = True
        if leaves:
            index = await self._index.remove(self._user_id, index, force=self._force)
        elif joins and index is None:
            index = await self._index.read()
        self._base = document
        self._tried[new["revision"]] = outcome = Outcome(read_account(new) or account, new, joins, leaves, index)
        if await write(self._api, document, new):
            if self.addresses:
                self.addresses.note_written(new["claim"])
            return outcome
        del self._tried[new["revision"]]
        return None

    async def _mark_claims(self, document: Document, new: Document) -> bool:
        self.addresses = self.addresses or AddressChange(self._api, self._user_id)
        return await self.addresses.mark(document.get("claim"), new["claim"])
