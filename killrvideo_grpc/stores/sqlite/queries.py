"""Reads accounts and events from the SQLite file."""

import json
import sqlite3
from collections.abc import Collection
from contextlib import closing
from functools import lru_cache
from itertools import islice
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials, normal_email
from killrvideo_grpc.domain.events import Event
from killrvideo_grpc.domain.ports import Page
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.stores.sqlite.rows import (
    ACCOUNT_COLUMNS,
    DELETED,
    EVENT_COLUMNS,
    SESSION_COLUMNS,
    Row,
    read_account,
    read_event,
)

CANDIDATES = 100  # accounts that a search reads at a time
LAST_CHARACTER = chr(0x10FFFF)  # sorts last, so `term + LAST_CHARACTER` ends a prefix range

_SELECTED = ", ".join(
    [f"sessions.{column}" for column in SESSION_COLUMNS] + [f"accounts.{column}" for column in ACCOUNT_COLUMNS]
)
_USERID = len(SESSION_COLUMNS)  # the index of the account's first column in a selected row
# Selects one row per session, or one row with NULL for an account without sessions.
_FROM = f"FROM accounts LEFT JOIN sessions USING (userid) WHERE account_status != '{DELETED}'"
_ACCOUNT = f"SELECT {_SELECTED} {_FROM} AND accounts.userid = ?"
_ACCOUNTS = f"SELECT {_SELECTED} {_FROM} AND accounts.userid IN (SELECT value FROM json_each(?))"
_CREDENTIALS = f"SELECT {_SELECTED}, hashed_password {_FROM} AND accounts.userid = ?"
_CREDENTIALS_BY_EMAIL = f"SELECT {_SELECTED}, hashed_password {_FROM} AND claimed_email = ?"


def find_account(connection: sqlite3.Connection, user_id: UUID) -> Account | None:
    """Read an account with its sessions in one statement, as every call with a token does."""
    rows = connection.execute(_ACCOUNT, (str(user_id),)).fetchall()
    return _account_of(user_id, tuple(rows)) if rows else None


@lru_cache(1000)  # most calls read an account that has not changed since the last one
def _account_of(user_id: UUID, rows: tuple[Row, ...]) -> Account:
    return read_account(user_id, rows)


def find_accounts(connection: sqlite3.Connection, user_ids: Collection[UUID]) -> dict[UUID, Account]:
    """Read the accounts that exist, by id."""
    rows_by_id: dict[str, list[Row]] = {}
    for row in connection.execute(_ACCOUNTS, (json.dumps([str(user_id) for user_id in user_ids]),)):
        rows_by_id.setdefault(row[_USERID], []).append(row)
    return {(user_id := UUID(key)): read_account(user_id, rows) for key, rows in rows_by_id.items()}


def find_credentials(connection: sqlite3.Connection, key: UUID | str) -> Credentials | None:
    """Read an account with its password hash, by its id or by an e-mail address in any spelling."""
    if isinstance(key, UUID):
        rows = connection.execute(_CREDENTIALS, (str(key),)).fetchall()
    else:
        rows = connection.execute(_CREDENTIALS_BY_EMAIL, (normal_email(key),)).fetchall()
    if not rows:
        return None
    account = read_account(UUID(rows[0][_USERID]), [row[:-1] for row in rows])
    return Credentials(account=account, password_hash=rows[0][-1])


def probe(connection: sqlite3.Connection) -> None:
    """Read any row, to check that the database answers."""
    connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchall()


def search(connection: sqlite3.Connection, query: Query, size: int, start: str) -> Page[Account]:
    """Return a page of the accounts that match a query, ordered by user id, after the position `start`."""
    found: list[Account] = []
    if query.matches_nothing:
        return Page(found, "")
    # One statement for all candidates, because each collects all ids of a term anew.
    with closing(connection.execute(*_selection(query, start))) as rows:
        while len(found) <= size and (ids := [UUID(user_id) for (user_id,) in islice(rows, CANDIDATES)]):
            accounts = find_accounts(connection, ids)
            candidates = (accounts[user_id] for user_id in ids if user_id in accounts)  # unless deleted meanwhile
            found += [account for account in candidates if query.matches(account)]
    return Page(found[:size], str(found[size - 1].user_id) if len(found) > size else "")


def _selection(query: Query, start: str) -> tuple[str, list[str]]:
    conditions, values = ["userid > ?", f"account_status != '{DELETED}'"], [start]
    for term in query.terms:
        conditions.append("userid IN (SELECT userid FROM search_terms WHERE term >= ? AND term < ?)")
        values += [term, term + LAST_CHARACTER]
    return f"SELECT userid FROM accounts WHERE {' AND '.join(conditions)} ORDER BY userid", values


def find_events(connection: sqlite3.Connection, user_id: UUID | None, size: int, start: str) -> Page[Event]:
    """Return a page of the events of an account, or of all if it is None, newest first, after the position `start`."""
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
        [read_event(row) for row in rows[:size]], ":".join(map(str, rows[size - 1][:2])) if len(rows) > size else ""
    )
