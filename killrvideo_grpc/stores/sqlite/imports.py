"""Imports into the SQLite file, within the caller's transaction, and reads of everything for an export."""

import sqlite3
from collections.abc import Sequence
from uuid import UUID

from killrvideo_grpc.domain.account import Credentials, normal_email
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.stores.sqlite.rows import ACCOUNT_COLUMNS, DELETED, SESSION_COLUMNS, read_account
from killrvideo_grpc.stores.sqlite.writes import insert_account

PAGE_SIZE = 500  # accounts that an export reads at a time

_STATUS = "SELECT account_status FROM accounts WHERE userid = ?"
_OWNER = "SELECT 1 FROM accounts WHERE claimed_email = ?"
_PAGE = (
    f"SELECT {', '.join([*['NULL'] * len(SESSION_COLUMNS), *ACCOUNT_COLUMNS])}, hashed_password FROM accounts"
    f" WHERE userid > ? AND account_status != '{DELETED}' ORDER BY userid LIMIT {PAGE_SIZE}"
)
_USERID = len(SESSION_COLUMNS)  # the index of the first account column


def import_accounts(connection: sqlite3.Connection, accounts: Sequence[ImportedAccount]) -> list[ImportOutcome]:
    """Insert the accounts that can be imported. Return an outcome for each."""
    outcomes = []
    for account in accounts:
        outcomes.append(outcome := _outcome(connection, account.credentials))
        if outcome is ImportOutcome.IMPORTED:
            insert_account(connection, account.credentials, account.event)
    return outcomes


def foresee_import(connection: sqlite3.Connection, accounts: Sequence[ImportedAccount]) -> list[ImportOutcome]:
    """Return what importing each of the accounts alone would lead to."""
    return [_outcome(connection, account.credentials) for account in accounts]


def credentials_page(connection: sqlite3.Connection, start: str) -> list[Credentials]:
    """Return the next accounts after the user id `start`, without their sessions."""
    return [
        Credentials(read_account(UUID(row[_USERID]), [row[:-1]]), row[-1])
        for row in connection.execute(_PAGE, (start,)).fetchall()
    ]


def _outcome(connection: sqlite3.Connection, credentials: Credentials) -> ImportOutcome:
    account = credentials.account
    for (status,) in connection.execute(_STATUS, (str(account.user_id),)):
        return ImportOutcome.DELETED if status == DELETED else ImportOutcome.EXISTS
    if account.email and connection.execute(_OWNER, (normal_email(account.email),)).fetchall():
        return ImportOutcome.EMAIL_TAKEN
    return ImportOutcome.IMPORTED
