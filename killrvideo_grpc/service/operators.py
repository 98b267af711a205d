"""What operators do from the command line, where nobody's token is checked."""

from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.changes import Action, AssignRole, Event, RevokeRole
from killrvideo_grpc.domain.errors import UserNotFound
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.service.people import find_credentials


class Operators:
    """Finds accounts by address and changes their roles. `operator` is a login name, for the audit trail."""

    def __init__(self, store: AccountStore, operator: str) -> None:
        self._store = store
        self._actor = f"cli:{operator}"

    async def assign_role(self, email: str, role: Role) -> Account:
        """Adds a role to the account with this address. Raises UserNotFound."""
        account = await self.find(email)
        if role in account.roles:
            return account
        event = self._event(account, Action.ROLE_ASSIGNED, account.roles | {role})
        return await self._store.apply(account, AssignRole(role), event)

    async def revoke_role(self, email: str, role: Role, *, force: bool = False) -> Account:
        """Removes a role from the account with this address. Raises UserNotFound, and LastModerator unless forced."""
        account = await self.find(email)
        if role not in account.roles:
            return account
        event = self._event(account, Action.ROLE_REVOKED, account.roles - {role})
        return await self._store.apply(account, RevokeRole(role, force), event)

    async def find(self, email: str) -> Account:
        """Returns the account with this address, in any spelling. Raises UserNotFound."""
        credentials = await find_credentials(self._store, email)
        if credentials is None:
            raise UserNotFound
        return credentials.account

    def _event(self, account: Account, action: Action, after: frozenset[Role]) -> Event:
        return Event(
            action=action,
            actor=self._actor,
            account=account.user_id,
            before=_names(account.roles),
            after=_names(after),
        )


def _names(roles: frozenset[Role]) -> str:
    return ",".join(role.value for role in Role if role in roles)
