"""What people do with their own accounts: register, log in, change their names and password, delete the account."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from killrvideo_grpc.domain.account import (
    MAX_EMAIL_LENGTH,
    Account,
    AccountStatus,
    Credentials,
    Role,
    normal_email,
    now,
)
from killrvideo_grpc.domain.changes import (
    Action,
    Change,
    ChangePassword,
    EndSessions,
    Event,
    OpenSession,
    Rename,
    RenewHash,
    role_names,
)
from killrvideo_grpc.domain.errors import (
    InvalidCredentials,
    InvalidRequest,
    Overloaded,
    StoreUnavailable,
    UserNotFound,
    Violation,
)
from killrvideo_grpc.domain.ports import AccountStore, PasswordHasher
from killrvideo_grpc.service.authentication import Caller, Origin
from killrvideo_grpc.service.login_throttle import Throttle
from killrvideo_grpc.service.sessions import Login, Sessions

HOUSEKEEPING_SECONDS = 1.0  # the longest that a login waits for its writes other than the session


class People:
    """The use cases of account owners."""

    def __init__(self, store: AccountStore, passwords: PasswordHasher, sessions: Sessions, throttle: Throttle) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle

    async def register(self, email: str, password: str, first_name: str, last_name: str, origin: Origin) -> Account:
        """Creates an account with the role viewer. Raises EmailAlreadyRegistered and TooManyAttempts."""
        self._throttle.refuse_registration(origin.source)
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
        # Registering makes this a known source, so others can't lock the owner out here.
        source, _ = self._throttle.updated_sources(account, origin.source)
        account = replace(account, sources={source: account.created_date})
        # Counted concurrently with the hash, which takes longer. So each process hashes a few registrations too
        # many before it knows that the limit is reached.
        hashing, counting = self._passwords.hash(password), self._throttle.count_registration(origin.source)
        password_hash, _ = await asyncio.gather(hashing, counting)
        event = _event(account, Action.REGISTERED, origin, account.created_date, after=role_names(account.roles))
        await self._store.register(account, password_hash, event)
        return account

    async def login(self, email: str, password: str, origin: Origin) -> Login:
        """Checks the credentials, opens a session and returns its tokens.

        Raises TooManyAttempts, and InvalidCredentials, which takes the same time whatever is wrong.
        """
        attempt = self._throttle.password_attempt(_name_of(email), origin.source)
        credentials, _ = await asyncio.gather(find_credentials(self._store, email), attempt.look())
        is_right = await attempt.guess(
            lambda begins: self._opens(credentials, password, begins),
            is_known=credentials is not None and self._throttle.knows(credentials.account, origin.source),
        )
        if credentials is None or not is_right:
            raise InvalidCredentials
        found = credentials.account
        session = self._sessions.new(found.credential_id, origin)
        removed = self._sessions.removable(found, room_for=1)
        source, forgotten = self._throttle.updated_sources(found, origin.source)
        account = await self._apply_login(found, OpenSession(session, removed, source, forgotten))
        # Since the account was read, its password may have been changed or the account suspended.
        if session.session_id not in account.sessions or account.status is not AccountStatus.ACTIVE:
            raise InvalidCredentials
        await self._keep_house(credentials, account, password)
        return self._sessions.grant(account, session)

    async def _opens(self, credentials: Credentials | None, password: str, begins: Callable[[], None]) -> bool:
        """Returns whether the account exists and is active, and the password is right."""
        password_hash = credentials.password_hash if credentials else None
        matches = await self._passwords.verify(password, password_hash, begins)
        return matches and credentials is not None and credentials.account.status is AccountStatus.ACTIVE

    async def _apply_login(self, account: Account, change: OpenSession) -> Account:
        try:
            return await self._store.apply(account, change)
        except UserNotFound:
            raise InvalidCredentials from None

    async def _keep_house(self, credentials: Credentials, account: Account, password: str) -> None:
        """Rehashes the password if its hash has another cost, and removes sessions over the limit.

        Concurrent logins can exceed that limit. Errors are ignored, because neither is a reason to fail the login; the
        store logs them.
        """
        changes: list[Change] = []
        if surplus := self._sessions.removable(account):
            changes.append(EndSessions(surplus))
        try:
            if self._passwords.needs_rehash(credentials.password_hash):
                changes.append(RenewHash(credentials.account.credential_id, await self._passwords.hash(password)))
            async with asyncio.timeout(HOUSEKEEPING_SECONDS):
                for change in changes:
                    await self._store.apply(account, change)
        except (StoreUnavailable, Overloaded, UserNotFound, TimeoutError):
            pass

    async def rename(self, account: Account, first_name: str | None, last_name: str | None) -> Account:
        """Changes the names that are not None. Writes nothing if both are None."""
        if first_name is None and last_name is None:
            return account
        return await self._store.apply(account, Rename(_trimmed(first_name), _trimmed(last_name)))

    async def change_password(self, caller: Caller, current: str, new: str, origin: Origin) -> Login:
        """Replaces the password, ends all sessions and opens a new one.

        Raises InvalidCredentials, InvalidRequest and TooManyAttempts.
        """
        if new == current:
            raise InvalidRequest([Violation("newPassword", "must differ from the current one")])
        credentials = await self._checked(caller, current, origin)
        session = self._sessions.new(uuid4().hex, origin)
        change = ChangePassword(credentials.account.credential_id, await self._passwords.hash(new), session)
        event = _event(caller.account, Action.PASSWORD_CHANGED, origin, session.created_date)
        return self._sessions.grant(await self._store.apply(credentials.account, change, event), session)

    async def delete(self, caller: Caller, password: str, origin: Origin) -> None:
        """Deletes the caller's account. Raises InvalidCredentials, LastModerator and TooManyAttempts."""
        credentials = await self._checked(caller, password, origin)
        event = _event(caller.account, Action.DELETED, origin, now())
        await self._store.delete(credentials.account, event)

    async def _checked(self, caller: Caller, password: str, origin: Origin) -> Credentials:
        account = caller.account
        attempt = self._throttle.password_attempt(_name_of(account.email), origin.source)
        credentials, _ = await asyncio.gather(self._store.get_credentials(account.user_id), attempt.look())
        if credentials is None:
            raise UserNotFound
        is_right = await attempt.guess(
            lambda begins: self._passwords.verify(password, credentials.password_hash, begins),
            is_known=self._throttle.knows(account, origin.source),
        )
        if not is_right:
            raise InvalidCredentials
        return credentials


async def find_credentials(store: AccountStore, email: str) -> Credentials | None:
    """Returns the credentials for an e-mail address. None without a look-up if it is longer than any address.

    Anyone can send megabytes of text, and the time to normalize it grows with the square of its length.
    """
    return await store.find_credentials(email) if _can_be_address(email) else None


def _name_of(email: str) -> str:
    """Returns what attempts on an address are counted under: its normal form, or one name for all that are too long."""
    return normal_email(email) if _can_be_address(email) else "too long"


def _can_be_address(email: str) -> bool:
    return len(email.strip()) <= MAX_EMAIL_LENGTH


def _event(account: Account, action: Action, origin: Origin, at: datetime, *, after: str = "") -> Event:
    return Event(
        action=action,
        actor=str(account.user_id),
        account=account.user_id,
        request_id=origin.request_id,
        after=after,
        at=at,
    )


def _trimmed(name: str | None) -> str | None:
    return None if name is None else name.strip()
