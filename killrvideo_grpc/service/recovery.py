"""Password resets: codes for people who forgot their password."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import NIL_UUID, AccountStatus, ResetCode, Role, now
from killrvideo_grpc.domain.changes import RequestReset, ResetPassword
from killrvideo_grpc.domain.errors import AccountSuspended, InvalidResetCode, OperatorsOnly, UserNotFound
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.domain.ports import AccountStore, PasswordHasher
from killrvideo_grpc.service.accounts import find_credentials, throttle_key
from killrvideo_grpc.service.authentication import ClientInfo, own_cause
from killrvideo_grpc.service.sessions import Login, Sessions
from killrvideo_grpc.service.throttle import Throttle

SECRET_BYTES = 32
CODE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A new reset code, and the stored address. Mail the code to no other."""

    code: str = field(repr=False)
    expires_at: datetime
    email: str


class ResetCodes:
    """Makes reset codes, which are valid for `lifetime`. A newer code of an account replaces the older one."""

    def __init__(self, store: AccountStore, throttle: Throttle, lifetime: timedelta) -> None:
        self._store = store
        self._throttle = throttle
        self._lifetime = lifetime

    async def issue(self, email: str, cause: Cause, *, by_operator: bool = False) -> IssuedCode:
        """Make a code for the account with this address.

        Raise UserNotFound, TooManyAttempts, and OperatorsOnly for a moderator's account unless `by_operator` is set.
        """
        credentials = await find_credentials(self._store, email)
        if credentials is None:
            raise UserNotFound
        account = credentials.account
        if Role.MODERATOR in account.roles and not by_operator:
            raise OperatorsOnly
        await self._throttle.count_reset(throttle_key(account.email), account.unblocked_date)
        code = f"{account.user_id}.{secrets.token_urlsafe(SECRET_BYTES)}"
        expires_at = now() + self._lifetime
        change = RequestReset(ResetCode(_digest(code), expires_at, by_operator))
        changed = await self._store.apply(account.user_id, change, cause, seen=account)
        return IssuedCode(code, expires_at, changed.email)


class Recovery:
    """Sets new passwords for reset codes."""

    def __init__(self, store: AccountStore, passwords: PasswordHasher, sessions: Sessions, throttle: Throttle) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle

    async def reset_password(self, code: str, new_password: str, client: ClientInfo) -> Login:
        """Redeem a code: replace the password, end all sessions and open a new one.

        Raise InvalidResetCode, whatever is wrong with the code, or TooManyAttempts after many wrong ones. Raise
        AccountSuspended after replacing the password of a suspended account.
        """
        try:
            return await self._reset_password(code, new_password, client)
        except (InvalidResetCode, UserNotFound):
            await self._throttle.count_wrong_reset_code(client.source)
            raise InvalidResetCode from None

    async def _reset_password(self, code: str, new_password: str, client: ClientInfo) -> Login:
        match = CODE.fullmatch(code)
        # Any code costs one read and one digest: timing reveals nothing.
        digest = _digest(code if match else "")
        seen = await self._store.get(UUID(match[1]) if match else NIL_UUID)
        if seen is None or not seen.accepts_reset_code(digest, now()):
            raise InvalidResetCode
        password_hash = await self._passwords.hash(new_password)
        session = self._sessions.create(client)
        source = self._throttle.source_digest(seen, client.source)
        change = ResetPassword(digest, uuid4().hex, password_hash, session, source)
        account = await self._store.apply(seen.user_id, change, own_cause(seen, client), seen=seen)
        if account.status is not AccountStatus.ACTIVE:
            raise AccountSuspended
        return self._sessions.grant(account, session)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
