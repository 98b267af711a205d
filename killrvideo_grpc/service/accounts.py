"""Registration, login, owners' changes, and look-ups of accounts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import (
    MAX_EMAIL_LENGTH,
    Account,
    AccountStatus,
    Credentials,
    Role,
    normal_email,
    now,
)
from killrvideo_grpc.domain.changes import ChangeEmail, ChangePassword, Delete, OpenSession, RehashPassword, Rename
from killrvideo_grpc.domain.errors import (
    EmailAlreadyRegistered,
    InvalidCredentials,
    InvalidRequest,
    Overloaded,
    StoreUnavailable,
    UserNotFound,
    Violation,
)
from killrvideo_grpc.domain.ports import AccountStore, PageTokens, PasswordHasher
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.service.authentication import ClientInfo, Principal, own_cause
from killrvideo_grpc.service.password_attempt import PasswordAttempt
from killrvideo_grpc.service.sessions import Login, Sessions
from killrvideo_grpc.service.throttle import Throttle

DEFAULT_PAGE_SIZE = 20
REHASH_SECONDS = 1.0  # that a login waits for its new hash to be stored


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The accounts found and the ids of those that don't exist, both in the order of the request."""

    accounts: Sequence[Account]
    missing: Sequence[UUID]


class Accounts:
    """The use cases of account owners, and of those who look up other accounts."""

    def __init__(
        self,
        store: AccountStore,
        passwords: PasswordHasher,
        sessions: Sessions,
        throttle: Throttle,
        page_tokens: PageTokens,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle
        self._page_tokens = page_tokens

    async def register(self, email: str, password: str, first_name: str, last_name: str, client: ClientInfo) -> Account:
        """Create an account with the role viewer. Raise EmailAlreadyRegistered and TooManyAttempts."""
        self._throttle.check_registration(client.source)
        account = Account(
            user_id=uuid4(),
            email=email.strip(),
            first_name=first_name.strip(),
            last_name=last_name.strip(),
            roles=frozenset({Role.VIEWER}),
            status=AccountStatus.ACTIVE,
            created_date=now(),
            credential_id=uuid4().hex,
        )
        # A known source from the start: others can't lock the owner out.
        source = self._throttle.source_digest(account, client.source)
        account = replace(account, sources={source: account.created_date})
        # Counting during the hash saves time, at the price of a few hashes beyond the limit.
        hashing, counting = self._passwords.hash(password), self._throttle.count_registration(client.source)
        password_hash, _ = await asyncio.gather(hashing, counting)
        await self._store.register(account, password_hash, own_cause(account, client))
        return account

    async def login(self, email: str, password: str, client: ClientInfo) -> Login:
        """Check the credentials, open a session and return its tokens.

        Raise TooManyAttempts, or InvalidCredentials after the same time whatever is wrong.
        """
        attempt = PasswordAttempt(self._throttle, throttle_key(email), client.source)
        credentials, _ = await asyncio.gather(find_credentials(self._store, email), attempt.load())
        is_right = await attempt.verify(
            lambda on_start: self._password_matches(credentials, password, on_start),
            is_known=credentials is not None and self._throttle.is_known_source(credentials.account, client.source),
            unblocked=credentials.account.unblocked_date if credentials else None,
        )
        if credentials is None or not is_right:
            raise InvalidCredentials
        seen = credentials.account
        session = self._sessions.create(client)
        source = self._throttle.source_digest(seen, client.source)
        change = OpenSession(seen.credential_id, session, self._sessions.lifetimes, source)
        try:
            account = await self._store.apply(seen.user_id, change, own_cause(seen, client), seen=seen)
        except UserNotFound:
            raise InvalidCredentials from None
        await self._rehash(credentials, account, password, client)
        return self._sessions.grant(account, session)

    async def _password_matches(
        self, credentials: Credentials | None, password: str, on_start: Callable[[], None]
    ) -> bool:
        """Return whether the account exists and is active, and the password is right."""
        password_hash = credentials.password_hash if credentials else None
        matches = await self._passwords.verify(password, password_hash, on_start)
        return matches and credentials is not None and credentials.account.status is AccountStatus.ACTIVE

    async def _rehash(self, credentials: Credentials, account: Account, password: str, client: ClientInfo) -> None:
        """Hash the password again if its hash has another cost. Ignore failures."""
        if not self._passwords.needs_rehash(credentials.password_hash):
            return
        try:
            change = RehashPassword(account.credential_id, await self._passwords.hash(password))
            async with asyncio.timeout(REHASH_SECONDS):
                await self._store.apply(account.user_id, change, own_cause(account, client), seen=account)
        except (StoreUnavailable, Overloaded, UserNotFound, TimeoutError):
            pass

    async def rename(
        self, account: Account, first_name: str | None, last_name: str | None, client: ClientInfo
    ) -> Account:
        """Change the names that are not None."""
        if first_name is None and last_name is None:
            return account
        change = Rename(_trimmed(first_name), _trimmed(last_name))
        return await self._store.apply(account.user_id, change, own_cause(account, client), seen=account)

    async def change_password(self, principal: Principal, current: str, new: str, client: ClientInfo) -> Login:
        """Replace the password, end all sessions and open a new one.

        Raise InvalidCredentials, InvalidRequest and TooManyAttempts.
        """
        if new == current:
            raise InvalidRequest([Violation("newPassword", "must differ from the current one")])
        seen = await self._reauthenticate(principal, current, client)
        session = self._sessions.create(client)
        change = ChangePassword(seen.credential_id, uuid4().hex, await self._passwords.hash(new), session)
        account = await self._store.apply(seen.user_id, change, own_cause(seen, client), seen=seen)
        return self._sessions.grant(account, session)

    async def change_email(self, principal: Principal, password: str, email: str, client: ClientInfo) -> Account:
        """Replace the address and free the old one. Sessions stay open.

        Raise InvalidCredentials, EmailAlreadyRegistered and TooManyAttempts.
        """
        # Count taken addresses as registrations: both reveal which addresses have accounts.
        self._throttle.check_registration(client.source)
        seen = await self._reauthenticate(principal, password, client)
        change = ChangeEmail(seen.credential_id, email.strip())
        try:
            return await self._store.apply(seen.user_id, change, own_cause(seen, client), seen=seen)
        except EmailAlreadyRegistered:
            await self._throttle.count_registration(client.source)
            raise

    async def delete(self, principal: Principal, password: str, client: ClientInfo) -> None:
        """Delete the caller's account. Raise InvalidCredentials, LastModerator and TooManyAttempts."""
        seen = await self._reauthenticate(principal, password, client)
        await self._store.apply(seen.user_id, Delete(seen.credential_id), own_cause(seen, client), seen=seen)

    async def _reauthenticate(self, principal: Principal, password: str, client: ClientInfo) -> Account:
        """Check the caller's password, and return the account as it was then."""
        account = principal.account
        attempt = PasswordAttempt(self._throttle, throttle_key(account.email), client.source, account.unblocked_date)
        credentials, _ = await asyncio.gather(self._store.get_credentials(account.user_id), attempt.load())
        if credentials is None:
            raise UserNotFound
        is_right = await attempt.verify(
            lambda on_start: self._passwords.verify(password, credentials.password_hash, on_start),
            is_known=self._throttle.is_known_source(account, client.source),
            unblocked=credentials.account.unblocked_date,
        )
        if not is_right:
            raise InvalidCredentials
        return credentials.account

    async def get(self, user_id: UUID) -> Account:
        """Return an account. Raise UserNotFound."""
        account = await self._store.get(user_id)
        if account is None:
            raise UserNotFound
        return account

    async def get_many(self, user_ids: Sequence[UUID]) -> BatchResult:
        """Return the accounts with these ids, at most 100. Repeated ids count once."""
        wanted = dict.fromkeys(user_ids)
        found = await self._store.get_many(wanted.keys())
        accounts = [found[user_id] for user_id in wanted if user_id in found]
        return BatchResult(accounts, [user_id for user_id in wanted if user_id not in found])

    async def search(self, text: str, size: int, token: str) -> tuple[Sequence[Account], str]:
        """Return a page of matching accounts, and the token of the next page; empty on the last page."""
        query = Query.parse(text)
        scope = f"search {query.words}"
        start = self._page_tokens.verify(token, scope) if token else ""
        page = await self._store.search(query, size or DEFAULT_PAGE_SIZE, start)
        return page.items, self._page_tokens.issue(page.next, scope)


async def find_credentials(store: AccountStore, email: str) -> Credentials | None:
    """Return the credentials for an e-mail address. Texts too long for one would be slow to normalize."""
    return await store.find_credentials(email) if _can_be_address(email) else None


def throttle_key(email: str) -> str:
    """Return the key that attempts on an address count under. Texts too long for one share a key."""
    return normal_email(email) if _can_be_address(email) else "too long"


def _can_be_address(email: str) -> bool:
    return len(email.strip()) <= MAX_EMAIL_LENGTH


def _trimmed(name: str | None) -> str | None:
    return None if name is None else name.strip()
