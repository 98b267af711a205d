"""Moderation, by moderators and by operators at the command line, and the audit trail."""

from collections.abc import Sequence
from uuid import UUID

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.changes import AssignRole, Delete, EndSessions, RevokeRole, SetStatus, Unblock
from killrvideo_grpc.domain.errors import SelfModification, UserNotFound
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.domain.ports import AccountStore, PageTokens
from killrvideo_grpc.service.accounts import DEFAULT_PAGE_SIZE, find_credentials
from killrvideo_grpc.service.authentication import ClientInfo, Principal


class Moderation:
    """The use cases of moderators. Those that change an account are idempotent and return it.

    They raise UserNotFound, and LastModerator if no active moderator would be left.
    """

    def __init__(self, store: AccountStore, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    async def assign_role(
        self, principal: Principal, user_id: UUID, role: Role, reason: str, client: ClientInfo
    ) -> Account:
        """Add a role."""
        return await self._store.apply(user_id, AssignRole(role), _cause(principal, reason, client))

    async def revoke_role(
        self, principal: Principal, user_id: UUID, role: Role, reason: str, client: ClientInfo
    ) -> Account:
        """Remove a role. Raise SelfModification if it is the caller's own moderator role."""
        if role is Role.MODERATOR and user_id == principal.account.user_id:
            raise SelfModification("role")
        return await self._store.apply(user_id, RevokeRole(role), _cause(principal, reason, client))

    async def suspend(self, principal: Principal, user_id: UUID, reason: str, client: ClientInfo) -> Account:
        """Suspend an account until it is reinstated. Raise SelfModification for the caller."""
        return await self._set_status(principal, user_id, AccountStatus.SUSPENDED, reason, client)

    async def reinstate(self, principal: Principal, user_id: UUID, reason: str, client: ClientInfo) -> Account:
        """Lift a suspension. Sessions that have not ended work again. Raise SelfModification for the caller."""
        return await self._set_status(principal, user_id, AccountStatus.ACTIVE, reason, client)

    async def end_sessions(self, principal: Principal, user_id: UUID, reason: str, client: ClientInfo) -> None:
        """End all sessions of an account, which may be the caller's own."""
        await self._store.apply(user_id, EndSessions(None), _cause(principal, reason, client))

    async def events(self, user_id: UUID | None, size: int, token: str) -> tuple[Sequence[Event], str]:
        """Return a page of one account's events, or of all events, newest first, and the token of the next page."""
        scope = f"events {user_id or ''}"
        start = self._page_tokens.verify(token, scope) if token else ""
        page = await self._store.events(user_id, size or DEFAULT_PAGE_SIZE, start)
        return page.items, self._page_tokens.issue(page.next, scope)

    async def _set_status(
        self, principal: Principal, user_id: UUID, status: AccountStatus, reason: str, client: ClientInfo
    ) -> Account:
        if user_id == principal.account.user_id:
            raise SelfModification("status")
        return await self._store.apply(user_id, SetStatus(status), _cause(principal, reason, client))


class Operators:
    """The use cases of the command line. All raise UserNotFound."""

    def __init__(self, store: AccountStore, actor: str) -> None:
        self._store = store
        self._actor = actor

    async def find(self, email: str) -> Account:
        """Return the account with this address, in any spelling."""
        credentials = await find_credentials(self._store, email)
        if credentials is None:
            raise UserNotFound
        return credentials.account

    async def assign_role(self, email: str, role: Role) -> Account:
        """Add a role to the account with this address."""
        account = await self.find(email)
        return await self._store.apply(account.user_id, AssignRole(role), Cause(self._actor))

    async def revoke_role(self, email: str, role: Role, *, force: bool = False) -> Account:
        """Remove a role from the account with this address. Raise LastModerator unless forced."""
        account = await self.find(email)
        return await self._store.apply(account.user_id, RevokeRole(role), Cause(self._actor), force=force)

    async def delete(self, email_or_id: str, reason: str, *, force: bool = False) -> Account:
        """Delete the account with this address or id, and return it as it was. Raise LastModerator unless forced."""
        account = await self._find_any(email_or_id)
        return await self._store.apply(account.user_id, Delete(None), Cause(self._actor, reason.strip()), force=force)

    async def unblock(self, email: str) -> Account:
        """Lift the limits that attempts on the account with this address have reached."""
        account = await self.find(email)
        return await self._store.apply(account.user_id, Unblock(), Cause(self._actor))

    async def _find_any(self, email_or_id: str) -> Account:
        try:
            user_id = UUID(email_or_id.strip())
        except ValueError:
            return await self.find(email_or_id)
        account = await self._store.get(user_id)
        if account is None:
            raise UserNotFound
        return account


def _cause(principal: Principal, reason: str, client: ClientInfo) -> Cause:
    return Cause(principal.actor, reason.strip(), client.request_id)
