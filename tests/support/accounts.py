"""Accounts, sessions and events to test with."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Lifetimes, ResetCode, Role, Session, now
from killrvideo_grpc.domain.changes import (
    ChangeEmail,
    ChangePassword,
    OpenSession,
    RefreshSession,
    RequestReset,
    ResetPassword,
)
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.domain.imports import IMPORT_BATCH, ImportedAccount
from killrvideo_grpc.domain.ports import AccountStore

PASSWORD = "correct horse"
LIFETIMES = Lifetimes(idle=timedelta(days=30), total=timedelta(days=90))
HASH = "$2b$04$abcdefghijklmnopqrstuuGk5g4yLZu1bYF6bTzmmWYYOmZOuQxEW"
OTHER_HASH = HASH.replace("$04$", "$05$")


def an_address() -> str:
    """Return an address that no other test uses."""
    return f"{uuid4().hex}@example.org"


def an_account(email: str | None = None, **fields: Any) -> Account:
    """Return an account as Register would make it, except for the given fields."""
    account = Account(
        user_id=uuid4(),
        email=email or an_address(),
        first_name="Ann",
        last_name="Lee",
        roles=frozenset({Role.VIEWER}),
        status=AccountStatus.ACTIVE,
        created_date=now(),
        credential_id=uuid4().hex,
    )
    return replace(account, **fields)


async def registered(store: AccountStore, email: str | None = None, **fields: Any) -> Account:
    """Register such an account, with the hash HASH, and return it."""
    account = an_account(email, **fields)
    await store.register(account, HASH, a_cause(account))
    return account


async def imported(store: AccountStore, accounts: Sequence[Account]) -> None:
    """Import these accounts, with the hash HASH, in fewer requests than registering them takes."""
    batch = [ImportedAccount.of(Credentials(account, HASH), a_cause(account)) for account in accounts]
    for start in range(0, len(batch), IMPORT_BATCH):
        await store.import_accounts(batch[start : start + IMPORT_BATCH])


def a_session(**fields: Any) -> Session:
    """Return a session that begins now, except for the given fields."""
    at = now()
    session = Session(uuid4().hex, generation=1, created_date=at, refreshed_date=at, user_agent="test agent")
    return replace(session, **fields)


def opening(account: Account, session: Session | None = None, **fields: Any) -> OpenSession:
    """Return the change of a login with the account's password."""
    return OpenSession(account.credential_id, session or a_session(), LIFETIMES, **fields)


def refreshing(session: Session, at: datetime | None = None) -> RefreshSession:
    """Return the change of a refresh with the session's current token."""
    return RefreshSession(session.session_id, session.generation, at or now(), LIFETIMES)


def a_new_password(account: Account, password_hash: str = OTHER_HASH, session: Session | None = None) -> ChangePassword:
    """Return the change that replaces the account's password."""
    return ChangePassword(account.credential_id, uuid4().hex, password_hash, session or a_session())


def a_new_address(account: Account, email: str | None = None) -> ChangeEmail:
    """Return the change that replaces the account's address."""
    return ChangeEmail(account.credential_id, email or an_address())


def a_reset_request(digest: str = "digest", **fields: Any) -> RequestReset:
    """Return the change that makes a reset code of an operator's, valid for an hour, except for the given fields."""
    code = ResetCode(digest, expires_at=now() + timedelta(hours=1), by_operator=True)
    return RequestReset(replace(code, **fields))


def a_reset(digest: str = "digest", password_hash: str = OTHER_HASH, session: Session | None = None) -> ResetPassword:
    """Return the change that spends a reset code."""
    return ResetPassword(digest, uuid4().hex, password_hash, session or a_session(), "source")


def a_cause(account: Account | UUID, **fields: Any) -> Cause:
    """Return the account's owner as the cause of a change, except for the given fields."""
    user_id = account if isinstance(account, UUID) else account.user_id
    return replace(Cause(str(user_id)), **fields)
