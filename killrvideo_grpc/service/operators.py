"""What operators do from the command line, without a token."""

from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.changes import Action, AssignRole, Change, Event, RevokeRole, has_effect
from killrvideo_grpc.domain.errors import UserNotFound
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.service.people import find_credentials


class Operators:
    """Finds accounts by address and changes their roles. `operator` is the login name that the audit trail records."""

    def __init__(self, store: AccountStore, operator: str) -> None:
        self._store = store
        self._actor = f"cli:{operator}"

    async def assign_role(self, email: str, role: Role) -> Account:
        """Adds a role to the account with this address. Raises UserNotFound."""
        return await self._change(email, AssignRole(role), Action.ROLE_ASSIGNED)

    async def revoke_role(self, email: str, role: Role, *, force: bool = False) -> Account:
        """Removes a role from the account with this address. Raises UserNotFound, or LastModerator unless forced."""
        return await self._change(email, RevokeRole(role, force), Action.ROLE_REVOKED)

    async def _change(self, email: str, change: Change, action: Action) -> Account:
        account = await self.find(email)
        if not has_effect(change, account):
            return account
        return await self._store.apply(account, change, Event(action, self._actor, account.user_id))

    async def find(self, email: str) -> Account:
        """Returns the account with this address, in any spelling. Raises UserNotFound."""
        credentials = await find_credentials(self._store, email)
        if credentials is None:
            raise UserNotFound
        return credentials.account
