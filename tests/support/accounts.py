"""Accounts, sessions and events to test with."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, Session, now
from killrvideo_grpc.domain.changes import Action, ChangePassword, Event

PASSWORD = "correct horse"
HASH = "$2b$04$abcdefghijklmnopqrstuuGk5g4yLZu1bYF6bTzmmWYYOmZOuQxEW"
OTHER_HASH = HASH.replace("$04$", "$05$")


def an_address() -> str:
    """Returns an address that no other test uses."""
    return f"{uuid4().hex}@example.org"


def an_account(email: str | None = None, **fields: Any) -> Account:
    """Returns an account as Register would make it, except for the given fields."""
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


def a_session(account: Account, **fields: Any) -> Session:
    """Returns a session as Login would open it with the account's password, except for the given fields."""
    at = now()
    session = Session(
        session_id=uuid4().hex,
        credential_id=account.credential_id,
        generation=1,
        created_date=at,
        refreshed_date=at,
        user_agent="test agent",
    )
    return replace(session, **fields)


def a_new_password(account: Account, password_hash: str = OTHER_HASH, **fields: Any) -> ChangePassword:
    """Returns the change that replaces the account's password; the fields are those of the session that it opens."""
    session = a_session(account, credential_id=uuid4().hex, **fields)
    return ChangePassword(account.credential_id, password_hash, session)


def an_event(account: Account | UUID, action: Action = Action.REGISTERED, **fields: Any) -> Event:
    """Returns the event of an account, caused by its owner unless the fields say otherwise."""
    user_id = account if isinstance(account, UUID) else account.user_id
    return replace(Event(action=action, actor=str(user_id), account=user_id), **fields)
