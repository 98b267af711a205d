"""Reads accounts and events from the SQLite file, and converts them to and from rows."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials, Role, Session, normal_email, read_roles, read_status
from killrvideo_grpc.domain.events import Action, Event
from killrvideo_grpc.domain.ports import Page
from killrvideo_grpc.domain.search import Query

DELETED = "deleted"  # the account_status of deleted accounts, which the statements here never return

CANDIDATES = 100  # accounts that a search reads at a time
LAST_CHARACTER = chr(0x10FFFF)  # sorts after every other character, so `term + LAST_CHARACTER` ends a prefix range
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
)
_SELECTED = ", ".join(
    [f"sessions.{column}" for column in SESSION_COLUMNS] + [f"accounts.{column}" for column in ACCOUNT_COLUMNS]
)
_USERID = len(SESSION_COLUMNS)  # the index of the account's first column in a selected row
# Selects one row per session; an account without sessions has one row, whose session columns are NULL.
_FROM = f"FROM accounts LEFT JOIN sessions USING (userid) WHERE account_status != '{DELETED}'"
_ACCOUNT = f"SELECT {_SELECTED} {_FROM} AND accounts.userid = ?"
_ACCOUNTS = f"SELECT {_SELECTED} {_FROM} AND accounts.userid IN (SELECT value FROM json_each(?))"
_CREDENTIALS = f"SELECT {_SELECTED}, hashed_password {_FROM} AND accounts.userid = ?"
_CREDENTIALS_BY_EMAIL = f"SELECT {_SELECTED}, hashed_password {_FROM} AND claimed_email = ?"

Row = tuple[Any, ...]


def find_account(connection: sqlite3.Connection, user_id: UUID) -> Account | None:
    """Read an account with its sessions in one statement. This is the hot path of every call that carries a token."""
    rows = connection.execute(_ACCOUNT, (str(user_id),)).fetchall()
    return _account(user_id, rows) if rows else None


def find_accounts(connection: sqlite3.Connection, user_ids: Collection[UUID]) -> dict[UUID, Account]:
    """Read accounts by id. Ids without an account are missing from the result."""
    rows_by_id: dict[str, list[Row]] = {}
    for row in connection.execute(_ACCOUNTS, (json.dumps([str(user_id) for user_id in user_ids]),)):
        rows_by_id.setdefault(row[_USERID], []).append(row)
    return {(user_id := UUID(key)): _account(user_id, rows) for key, rows in rows_by_id.items()}


def find_credentials(connection: sqlite3.Connection, key: UUID | str) -> Credentials | None:
    """Read an account with its password hash, by its id or by an e-mail address in any spelling."""
    if isinstance(key, UUID):
        rows = connection.execute(_CREDENTIALS, (str(key),)).fetchall()
    else:
        rows = connection.execute(_CREDENTIALS_BY_EMAIL, (normal_email(key),)).fetchall()
    if not rows:
        return None
    account = _account(UUID(rows[0][_USERID]), [row[:-1] for row in rows])
    return Credentials(account=account, password_hash=rows[0][-1])


def probe(connection: sqlite3.Connection, _: None) -> None:
    """Read any row, to check that the database answers."""
    connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchall()


def search(connection: sqlite3.Connection, question: tuple[Query, int, str]) -> Page[Account]:
    """Return a page of the accounts that match a query, ordered by user id.

    `question` is the query, the size of the page, and the position to start after.
    """
    query, size, start = question
    found: list[Account] = []
    while len(found) <= size and not query.is_hopeless:
        ids = [row[0] for row in connection.execute(*_selection(query, start))]
        accounts = find_accounts(connection, [UUID(user_id) for user_id in ids])
        candidates = (accounts[UUID(user_id)] for user_id in ids if UUID(user_id) in accounts)
        found += [account for account in candidates if query.matches(account)]
        if len(ids) < CANDIDATES:
            break
        start = ids[-1]
    return Page(found[:size], str(found[size - 1].user_id) if len(found) > size else "")


def _selection(query: Query, start: str) -> tuple[str, list[str | int]]:
    conditions, values = ["userid > ?", f"account_status != '{DELETED}'"], list[str | int]([start])
    for term in query.terms:
        conditions.append("userid IN (SELECT userid FROM search_terms WHERE term >= ? AND term < ?)")
        values += [term, term + LAST_CHARACTER]
    statement = f"SELECT userid FROM accounts WHERE {' AND '.join(conditions)} ORDER BY userid LIMIT ?"
    return statement, [*values, CANDIDATES]


def find_events(connection: sqlite3.Connection, question: tuple[UUID | None, int, str]) -> Page[Event]:
    """Return a page of the events of an account, or of all accounts if it is None, newest first.

    `question` is the account's id, the size of the page, and the position to start after.
    """
    user_id, size, start = question
    conditions, values = list[str](), list[str | int]()
    if user_id:
        conditions, values = ["account = ?"], [str(user_id)]
    if start:
        at, event_id = start.split(":")
        conditions.append("at <= ? AND (at < ? OR event_id > ?)")
        values += [int(at), int(at), event_id]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events {where} ORDER BY at DESC, event_id LIMIT ?"
    rows = connection.execute(statement, [*values, size + 1]).fetchall()
    return Page(
        [_event(row) for row in rows[:size]], ":".join(map(str, rows[size - 1][:2])) if len(rows) > size else ""
    )


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


def _account(user_id: UUID, rows: list[Row]) -> Account:
    _, email, first_name, last_name, roles, status, created, last_login, credential, sources = rows[0][_USERID:]
    return Account(
        user_id=user_id,
        email=email,
        first_name=first_name,
        last_name=last_name,
        roles=_roles(roles),
        status=read_status(status),
        created_date=_to_datetime(created),
        last_login_date=None if last_login is None else _to_datetime(last_login),
        credential_id=credential,
        sessions={row[0]: _session(row) for row in rows if row[0] is not None},
        sources=_sources(sources),
    )


def _session(row: Row) -> Session:
    session_id, generation, created, refreshed, user_agent, *_ = row
    return Session(session_id, generation, _to_datetime(created), _to_datetime(refreshed), user_agent)


def _event(row: Row) -> Event:
    at, event_id, account, action, actor, reason, request_id, before, after = row
    return Event(
        action=Action(action),
        account=UUID(account),
        actor=actor,
        reason=reason,
        request_id=request_id,
        before=before,
        after=after,
        at=_to_datetime(at),
        event_id=UUID(event_id),
    )


@lru_cache(64)  # there are few combinations of roles, and every GetMe reads one
def _roles(names: str) -> frozenset[Role]:
    return read_roles(json.loads(names))


@lru_cache(1000)  # every GetMe reads them, and only logins change them
def _sources(text: str) -> Mapping[str, datetime]:
    return MappingProxyType({source: _to_datetime(at) for source, at in json.loads(text).items()})


def _to_datetime(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)  # twice as fast as adding to EPOCH, and exact until 2242
