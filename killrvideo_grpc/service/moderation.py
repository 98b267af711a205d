"""What moderators do with other people's accounts, and the audit trail."""

from collections.abc import Sequence
from uuid import UUID

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.changes import Action, AssignRole, Change, Event, RevokeRole, SetStatus, has_effect
from killrvideo_grpc.domain.errors import OwnAccount, UserNotFound
from killrvideo_grpc.domain.ports import AccountStore, PageTokens
from killrvideo_grpc.service.authentication import Caller, Origin
from killrvideo_grpc.service.directory import DEFAULT_PAGE_SIZE


class Moderation:
    """The use cases of moderators. Those that change an account are idempotent and return the account after the change.

    They raise UserNotFound, and LastModerator if no active moderator would be left.
    """

    def __init__(self, store: AccountStore, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    async def assign_role(self, caller: Caller, user_id: UUID, role: Role, reason: str, origin: Origin) -> Account:
        """Adds a role."""
        return await self._change(caller, user_id, AssignRole(role), Action.ROLE_ASSIGNED, reason, origin)

    async def revoke_role(self, caller: Caller, user_id: UUID, role: Role, reason: str, origin: Origin) -> Account:
        """Removes a role. Raises OwnAccount if it is the caller's own moderator role."""
        if role is Role.MODERATOR and user_id == caller.account.user_id:
            raise OwnAccount("role")
        return await self._change(caller, user_id, RevokeRole(role), Action.ROLE_REVOKED, reason, origin)

    async def suspend(self, caller: Caller, user_id: UUID, reason: str, origin: Origin) -> Account:
        """Suspends an account until it is reinstated. Raises OwnAccount for the caller."""
        return await self._set_status(caller, user_id, AccountStatus.SUSPENDED, Action.SUSPENDED, reason, origin)

    async def reinstate(self, caller: Caller, user_id: UUID, reason: str, origin: Origin) -> Account:
        """Lifts a suspension. Sessions that have not ended work again. Raises OwnAccount for the caller."""
        return await self._set_status(caller, user_id, AccountStatus.ACTIVE, Action.REINSTATED, reason, origin)

    async def events(self, user_id: UUID | None, size: int, token: str) -> tuple[Sequence[Event], str]:
        """Returns a page of one account's events, or of all events, newest first, and the token of the next page."""
        scope = f"events {user_id or ''}"
        start = self._page_tokens.verify(token, scope) if token else ""
        page = await self._store.events(user_id, size or DEFAULT_PAGE_SIZE, start)
        return page.items, self._page_tokens.issue(page.next, scope)

    async def _set_status(
        self, caller: Caller, user_id: UUID, status: AccountStatus, action: Action, reason: str, origin: Origin
    ) -> Account:
        if user_id == caller.account.user_id:
            raise OwnAccount("status")
        return await self._change(caller, user_id, SetStatus(status), action, reason, origin)

    async def _change(
        self, caller: Caller, user_id: UUID, change: Change, action: Action, reason: str, origin: Origin
    ) -> Account:
        account = await self._store.get(user_id)
        if account is None:
            raise UserNotFound
        if not has_effect(change, account):
            return account
        event = Event(action, str(caller.account.user_id), user_id, reason.strip(), origin.request_id)
        return await self._store.apply(account, change, event)
