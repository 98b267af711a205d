"""A change of an account document: read, decide, compare and set, until it is written exactly once."""

from dataclasses import dataclass, replace
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.changes import AssignRole, Change, RevokeRole, SetStatus
from killrvideo_grpc.domain.errors import StoreUnavailable, UserNotFound
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.stores.astra.document import document_after, document_id, read_account
from killrvideo_grpc.stores.astra.moderator_index import INDEX_ID, ModeratorIndex, read_index
from killrvideo_grpc.stores.astra.revisions import Locks, until_written, write
from killrvideo_grpc.stores.data_api.client import DataApi, Document


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did. `account` is the account after it, or before it if it was deleted.

    `index` is the moderator index as it was last read or written, if `joins` or `leaves` it.
    """

    account: Account
    document: Document
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
        self.has_left_index = False
        self._api = api
        self._index = index
        self._user_id = user_id
        self._change = change
        self._cause = cause
        self._force = force
        self._base: Document | None = None  # what the writes in `_tried` were based on
        self._tried: dict[str, Outcome] = {}  # by revision

    async def run(self, locks: Locks, seen: Account | None) -> Outcome:
        """Make the change. `seen` saves a read, unless another change of this process may come first.

        Raises UserNotFound, LastModerator, the errors of the change, and StoreUnavailable.
        """
        lock = locks.of(document_id(self._user_id))
        known = None if seen is None or lock.locked() else seen.stored

        async def step() -> Outcome | None:
            nonlocal known
            document, index = (known, None) if isinstance(known, dict) else await self._read()
            known = None
            return self._find_written(document) or await self._write(document, index)

        async with lock:
            return await until_written(step)

    async def _read(self) -> tuple[Document | None, Document | None]:
        """Read the account and, if the change may concern it, the moderator index in the same request."""
        keys = [document_id(self._user_id)]
        if isinstance(self._change, SetStatus | AssignRole | RevokeRole) and _concerns_moderators(self._change):
            keys.append(INDEX_ID)
        found = await self._api.find_documents(keys)
        return found.get(keys[0]), read_index(found.get(INDEX_ID)) if len(keys) > 1 else None

    def _find_written(self, document: Document | None) -> Outcome | None:
        """Return the outcome of an earlier try that turns out to have been written."""
        if not self._tried or not self._base or not document or document["revision"] == self._base["revision"]:
            return None
        revisions = {document["revision"], *document["recent"]}
        for revision in self._tried.keys() & revisions:
            return replace(self._tried[revision], document=document, index=None)
        if self._base["revision"] not in revisions:
            raise StoreUnavailable("outcome unknown")
        self._tried.clear()
        return None

    async def _write(self, document: Document | None, index: Document | None) -> Outcome | None:
        account = read_account(document)
        if document is None or account is None:
            raise UserNotFound
        transition = self._change.decide(account, self._cause)
        if not transition.has_effect_on(account):
            return Outcome(account, document)
        new = document_after(document, account, transition)
        joins, leaves = transition.makes_moderator(account), transition.ends_moderator(account)
        if leaves:
            self.has_left_index = True
            index = await self._index.remove(self._user_id, index, force=self._force)
        elif joins and index is None:
            index = await self._index.read()
        self._base = document
        self._tried[new["revision"]] = outcome = Outcome(read_account(new) or account, new, joins, leaves, index)
        if await write(self._api, document, new):
            return outcome
        del self._tried[new["revision"]]
        return None


def _concerns_moderators(change: SetStatus | AssignRole | RevokeRole) -> bool:
    return isinstance(change, SetStatus) or change.role is Role.MODERATOR
