"""Converts accounts, sessions and events to and from rows of the SQLite file."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from uuid import UUID

from killrvideo_grpc.domain.account import Account, ResetCode, Role, Session, read_roles, read_status
from killrvideo_grpc.domain.events import Event, read_action

DELETED = "deleted"  # the account_status of deleted accounts, which queries leave out

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SESSION_COLUMNS = ("session_id", "generation", "created_date", "refreshed_date", "user_agent")
EVENT_COLUMNS = ("at", "event_id", "account", "action", "actor", "reason", "request_id", "before", "after")
ACCOUNT_COLUMNS = (
    "userid",
    "email",
    "firstname",
    "lastname",
    "roles",
    "account_status",
    "created_date",
    "last_login_date",
    "credential_id",
    "sources",
    "reset_code",
    "unblocked_date",
)

Row = tuple[Any, ...]


def account_row(account: Account) -> Row:
    """Return the account as values of ACCOUNT_COLUMNS."""
    return (
        str(account.user_id),
        account.email,
        account.first_name,
        account.last_name,
        json.dumps(sorted(account.roles)),
        account.status,
        to_millis(account.created_date),
        None if account.last_login_date is None else to_millis(account.last_login_date),
        account.credential_id,
        json.dumps({source: to_millis(at) for source, at in account.sources.items()}),
        None if account.reset_code is None else _reset_code_text(account.reset_code),
        None if account.unblocked_date is None else to_millis(account.unblocked_date),
    )


def session_row(session: Session) -> Row:
    """Return the session as values of SESSION_COLUMNS."""
    return (
        session.session_id,
        session.generation,
        to_millis(session.created_date),
        to_millis(session.refreshed_date),
        session.user_agent,
    )


def event_row(event: Event) -> Row:
    """Return the event as values of EVENT_COLUMNS."""
    return (
        to_millis(event.at),
        str(event.event_id),
        str(event.account),
        event.action,
        event.actor,
        event.reason,
        event.request_id,
        event.before,
        event.after,
    )


def to_millis(moment: datetime) -> int:
    """Return milliseconds since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def read_account(user_id: UUID, rows: Sequence[Row]) -> Account:
    """Return an account from its rows, each the columns of a session, then those of the account."""
    columns = rows[0][len(SESSION_COLUMNS) :]
    _, email, first_name, last_name, roles, status, created, last_login, credential, sources, code, unblocked = columns
    return Account(
        user_id=user_id,
        email=email,
        first_name=first_name,
        last_name=last_name,
        roles=_roles(roles),
        status=read_status(status),
        created_date=from_millis(created),
        last_login_date=_optional_datetime(last_login),
        credential_id=credential,
        sessions={row[0]: _session(row) for row in rows if row[0] is not None},
        sources=_sources(sources),
        reset_code=None if code is None else _reset_code(code),
        unblocked_date=_optional_datetime(unblocked),
    )


def _session(row: Row) -> Session:
    session_id, generation, created, refreshed, user_agent, *_ = row
    return Session(session_id, generation, from_millis(created), from_millis(refreshed), user_agent)


def read_event(row: Row) -> Event:
    """Return an event from the values of EVENT_COLUMNS."""
    at, event_id, account, action, actor, reason, request_id, before, after = row
    return Event(
        action=read_action(action),
        account=UUID(account),
        actor=actor,
        reason=reason,
        request_id=request_id,
        before=before,
        after=after,
        at=from_millis(at),
        event_id=UUID(event_id),
    )


@lru_cache(64)  # there are few combinations
def _roles(names: str) -> frozenset[Role]:
    return read_roles(json.loads(names))


@lru_cache(1000)  # only logins change them
def _sources(text: str) -> Mapping[str, datetime]:
    return MappingProxyType({source: from_millis(at) for source, at in json.loads(text).items()})


def _reset_code_text(code: ResetCode) -> str:
    return json.dumps(
        {"digest": code.digest, "expires_at": to_millis(code.expires_at), "by_operator": code.by_operator}
    )


def _reset_code(text: str) -> ResetCode:
    values = json.loads(text)
    return ResetCode(values["digest"], from_millis(values["expires_at"]), values["by_operator"])


def _optional_datetime(millis: int | None) -> datetime | None:
    return None if millis is None else from_millis(millis)


def from_millis(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)  # twice as fast as adding to EPOCH, and exact until 2242
