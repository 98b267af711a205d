"""The SQLite store's writes, each within its caller's transaction."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials, Role, normal_email
from killrvideo_grpc.domain.changes import Change
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, LastModerator, UserNotFound
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.domain.search import terms
from killrvideo_grpc.stores.sqlite.queries import find_account
from killrvideo_grpc.stores.sqlite.rows import (
    ACCOUNT_COLUMNS,
    DELETED,
    EVENT_COLUMNS,
    SESSION_COLUMNS,
    account_row,
    event_row,
    from_millis,
    session_row,
)

_INSERT_ACCOUNT = (
    f"INSERT INTO accounts (claimed_email, hashed_password, {', '.join(ACCOUNT_COLUMNS)})"
    f" VALUES (?, ?{', ?' * len(ACCOUNT_COLUMNS)})"
)
_PUT_SESSION = (
    f"INSERT OR REPLACE INTO sessions (userid, {', '.join(SESSION_COLUMNS)}) VALUES (?{', ?' * len(SESSION_COLUMNS)})"
)
_INSERT_EVENT = f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) VALUES (?{', ?' * (len(EVENT_COLUMNS) - 1)})"
# Begins with the condition of the index active_moderators, so that SQLite uses it.
_OTHER_MODERATOR = (
    "SELECT 1 FROM accounts WHERE account_status = 'active' AND instr(roles, '\"moderator\"')"
    " AND email != '' AND userid != ? LIMIT 1"
)
# Keeps roles that only a newer version knows.
_KNOWN_ROLES = ", ".join(f"'{role}'" for role in Role)
_SET_ROLES = (
    "roles = (SELECT json_group_array(value) FROM (SELECT value FROM json_each(roles)"
    f" WHERE value NOT IN ({_KNOWN_ROLES}) UNION ALL SELECT value FROM json_each(?)))"
)
_ERASE = (
    f"UPDATE accounts SET account_status = '{DELETED}', claimed_email = NULL, email = '', firstname = '',"
    " lastname = '', roles = '[]', credential_id = '', hashed_password = '', sources = '{}', reset_code = NULL,"
    " unblocked_date = NULL WHERE userid = ?"
)


def register(connection: sqlite3.Connection, account: Account, password_hash: str, cause: Cause) -> None:
    """Insert an account. Raise EmailAlreadyRegistered."""
    with _taken_addresses():
        insert_account(connection, Credentials(account, password_hash), cause.registration(account))


def insert_account(connection: sqlite3.Connection, credentials: Credentials, event: Event) -> None:
    """Insert an account without sessions, with its address if it has one, and its first event."""
    account = credentials.account
    claimed = normal_email(account.email) or None
    connection.execute(_INSERT_ACCOUNT, (claimed, credentials.password_hash, *account_row(account)))
    _index(connection, account)
    _record(connection, event)


def apply(connection: sqlite3.Connection, user_id: UUID, change: Change, cause: Cause, *, force: bool) -> Account:
    """Decide a change and write what differs. Return the account after it, or before a deletion.

    Raise UserNotFound, LastModerator, EmailAlreadyRegistered and the errors of the change.
    """
    before = find_account(connection, user_id)
    if before is None:
        raise UserNotFound
    transition = change.decide(before, cause)
    after = transition.account
    if transition.loses_moderator(before) and not force:
        _require_other_moderator(connection, before)
    if after is None:
        _erase(connection, user_id)
    else:
        _update_account(connection, before, after, transition.password_hash)
        _update_sessions(connection, before, after)
    if transition.event:
        _record(connection, transition.event)
    return after or before


@contextmanager
def _taken_addresses() -> Iterator[None]:
    """Turn a violation of the unique column into EmailAlreadyRegistered."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorname != "SQLITE_CONSTRAINT_UNIQUE":
            raise
        raise EmailAlreadyRegistered from None


def _require_other_moderator(connection: sqlite3.Connection, account: Account) -> None:
    if not connection.execute(_OTHER_MODERATOR, (str(account.user_id),)).fetchall():
        raise LastModerator


def _update_account(connection: sqlite3.Connection, before: Account, after: Account, password_hash: str | None) -> None:
    old, new = account_row(before), account_row(after)
    columns = zip(ACCOUNT_COLUMNS, old, new, strict=True)
    values = {name: value for name, previous, value in columns if value != previous}
    assignments = [_SET_ROLES if name == "roles" else f"{name} = ?" for name in values]
    if password_hash is not None:
        assignments.append("hashed_password = ?")
        values["hashed_password"] = password_hash
    if "email" in values:
        assignments.append("claimed_email = ?")
        values["claimed_email"] = normal_email(after.email)
    if assignments:
        statement = f"UPDATE accounts SET {', '.join(assignments)} WHERE userid = ?"
        with _taken_addresses():
            connection.execute(statement, (*values.values(), str(after.user_id)))
    if values.keys() & {"email", "firstname", "lastname"}:
        _index(connection, after)


def _update_sessions(connection: sqlite3.Connection, before: Account, after: Account) -> None:
    user_id = str(after.user_id)
    ended = [(user_id, key) for key in before.sessions if key not in after.sessions]
    connection.executemany("DELETE FROM sessions WHERE userid = ? AND session_id = ?", ended)
    changed = [each for key, each in after.sessions.items() if before.sessions.get(key) != each]
    connection.executemany(_PUT_SESSION, [(user_id, *session_row(session)) for session in changed])


def _erase(connection: sqlite3.Connection, user_id: UUID) -> None:
    for statement in (
        _ERASE,
        "DELETE FROM sessions WHERE userid = ?",
        "DELETE FROM search_terms WHERE userid = ?",
    ):
        connection.execute(statement, (str(user_id),))


def _index(connection: sqlite3.Connection, account: Account) -> None:
    user_id = str(account.user_id)
    connection.execute("DELETE FROM search_terms WHERE userid = ?", (user_id,))
    rows = [(term, user_id) for term in terms(account.email, account.first_name, account.last_name)]
    connection.executemany("INSERT INTO search_terms (term, userid) VALUES (?, ?)", rows)


def _record(connection: sqlite3.Connection, event: Event) -> None:
    (latest,) = connection.execute("SELECT max(at) FROM events WHERE account = ?", (str(event.account),)).fetchone()
    dated = event.after_latest(None if latest is None else from_millis(latest))
    connection.execute(_INSERT_EVENT, event_row(dated))
