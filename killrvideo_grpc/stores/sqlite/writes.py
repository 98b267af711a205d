"""The SQLite store's writes. Each function runs in its caller's transaction, which is rolled back on an exception."""

import sqlite3
from dataclasses import replace
from typing import assert_never
from uuid import UUID

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, Session, normal_email
from killrvideo_grpc.domain.changes import (
    AssignRole,
    Change,
    ChangePassword,
    EndSessions,
    Event,
    OpenSession,
    RefreshSession,
    Rename,
    RenewHash,
    RevokeRole,
    SetStatus,
    described,
    has_effect,
    role_names,
)
from killrvideo_grpc.domain.errors import EmailAlreadyRegistered, InvalidCredentials, LastModerator, UserNotFound
from killrvideo_grpc.domain.search import terms
from killrvideo_grpc.stores.sqlite.rows import (
    ACCOUNT_COLUMNS,
    DELETED,
    EVENT_COLUMNS,
    SESSION_COLUMNS,
    account_row,
    event_row,
    find_account,
    session_row,
    to_millis,
)

_SessionChange = OpenSession | RefreshSession | EndSessions | ChangePassword
_AccountChange = Rename | RenewHash | AssignRole | RevokeRole | SetStatus

_INSERT_ACCOUNT = (
    f"INSERT INTO accounts (claimed_email, hashed_password, {', '.join(ACCOUNT_COLUMNS)})"
    f" VALUES (?, ?{', ?' * len(ACCOUNT_COLUMNS)})"
)
_INSERT_SESSION = (
    f"INSERT INTO sessions (userid, {', '.join(SESSION_COLUMNS)}) VALUES (?{', ?' * len(SESSION_COLUMNS)})"
)
_INSERT_EVENT = f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) VALUES (?{', ?' * (len(EVENT_COLUMNS) - 1)})"
# Uses the same condition as the index active_moderators, so that SQLite can use it.
_ACTIVE_MODERATORS = "SELECT userid FROM accounts WHERE account_status = 'active' AND instr(roles, '\"moderator\"')"


def register(connection: sqlite3.Connection, account: Account, password_hash: str, event: Event) -> None:
    """Inserts an account. Raises EmailAlreadyRegistered."""
    try:
        connection.execute(_INSERT_ACCOUNT, (normal_email(account.email), password_hash, *account_row(account)))
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorname != "SQLITE_CONSTRAINT_UNIQUE":
            raise
        raise EmailAlreadyRegistered from None
    _index(connection, account)
    _record(connection, event)


def apply(connection: sqlite3.Connection, user_id: UUID, change: Change, event: Event | None) -> Account:
    """Applies a change and returns the account after it.

    Raises UserNotFound, LastModerator and InvalidCredentials.
    """
    account = _existing(connection, user_id)
    if isinstance(change, _SessionChange):
        _change_sessions(connection, account, change)
    else:
        _change_account(connection, account, change)
    if event and has_effect(change, account):
        _record(connection, described(event, change, account))
    changed = _existing(connection, user_id)
    if isinstance(change, Rename):
        _index(connection, changed)
    return changed


def delete(connection: sqlite3.Connection, seen: Account, event: Event, *, force: bool) -> None:
    """Deletes an account: erases all but its id, dates and events.

    Raises UserNotFound, LastModerator, and InvalidCredentials when its password has changed since it was `seen`.
    """
    user_id = seen.user_id
    account = _existing(connection, user_id)
    if account.credential_id != seen.credential_id:
        raise InvalidCredentials
    if not force:
        _check_not_last_moderator(connection, account)
    connection.execute(
        "UPDATE accounts SET account_status = ?, claimed_email = NULL, email = '', firstname = '', lastname = '',"
        " roles = '[]', credential_id = '', hashed_password = '', sources = '{}' WHERE userid = ?",
        (DELETED, str(user_id)),
    )
    _delete_sessions(connection, user_id)
    connection.execute("DELETE FROM search_terms WHERE userid = ?", (str(user_id),))
    _record(connection, replace(event, before=role_names(account.roles)))


def _change_account(connection: sqlite3.Connection, account: Account, change: _AccountChange) -> None:
    user_id = account.user_id
    match change:
        case Rename():
            names = "firstname = coalesce(?, firstname), lastname = coalesce(?, lastname)"
            _update(connection, user_id, names, change.first_name, change.last_name)
        case RenewHash():
            if account.credential_id == change.credential_id:
                _update(connection, user_id, "hashed_password = ?", change.password_hash)
        case AssignRole():
            _change_roles(connection, user_id, "SELECT value FROM json_each(roles) UNION SELECT ?", change.role)
        case RevokeRole():
            if change.role is Role.MODERATOR and not change.force:
                _check_not_last_moderator(connection, account)
            _change_roles(connection, user_id, "SELECT value FROM json_each(roles) WHERE value != ?", change.role)
        case SetStatus():
            if change.status is not AccountStatus.ACTIVE:
                _check_not_last_moderator(connection, account)
            _update(connection, user_id, "account_status = ?", change.status)
        case _:
            assert_never(change)


def _change_sessions(connection: sqlite3.Connection, account: Account, change: _SessionChange) -> None:
    user_id = account.user_id
    match change:
        case OpenSession(session, removed, source, forgotten):
            at = to_millis(session.created_date)
            _end_sessions(connection, user_id, removed)
            _insert_session(connection, user_id, session)
            _update(connection, user_id, "last_login_date = ?", at)
            for each in forgotten:
                _update(connection, user_id, "sources = json_remove(sources, ?)", f'$."{each}"')
            if source:
                _update(connection, user_id, "sources = json_set(sources, ?, ?)", f'$."{source}"', at)
        case RefreshSession(session_id, generation, at):
            connection.execute(
                "UPDATE sessions SET generation = max(generation, ?), refreshed_date = max(refreshed_date, ?)"
                " WHERE userid = ? AND session_id = ?",
                (generation, to_millis(at), str(user_id), session_id),
            )
        case EndSessions(session_ids):
            _end_sessions(connection, user_id, session_ids)
        case ChangePassword():
            if account.credential_id != change.previous_credential_id:
                raise InvalidCredentials
            hashed, session = change.password_hash, change.session
            _update(connection, user_id, "credential_id = ?, hashed_password = ?", session.credential_id, hashed)
            _delete_sessions(connection, user_id)
            _insert_session(connection, user_id, session)
        case _:
            assert_never(change)


def _existing(connection: sqlite3.Connection, user_id: UUID) -> Account:
    account = find_account(connection, user_id)
    if account is None:
        raise UserNotFound
    return account


def _check_not_last_moderator(connection: sqlite3.Connection, account: Account) -> None:
    """Raises LastModerator if this account is the only active moderator."""
    if account.is_active_moderator:
        others = connection.execute(f"{_ACTIVE_MODERATORS} AND userid != ? LIMIT 1", (str(account.user_id),))
        if not others.fetchall():
            raise LastModerator


def _update(connection: sqlite3.Connection, user_id: UUID, assignments: str, *values: str | int | None) -> None:
    connection.execute(f"UPDATE accounts SET {assignments} WHERE userid = ?", (*values, str(user_id)))


def _change_roles(connection: sqlite3.Connection, user_id: UUID, selection: str, role: Role) -> None:
    # In SQL, so that roles that only a newer version knows are kept.
    _update(connection, user_id, f"roles = (SELECT json_group_array(value) FROM ({selection}))", role)


def _insert_session(connection: sqlite3.Connection, user_id: UUID, session: Session) -> None:
    connection.execute(_INSERT_SESSION, (str(user_id), *session_row(session)))


def _end_sessions(connection: sqlite3.Connection, user_id: UUID, session_ids: frozenset[str]) -> None:
    keys = [(str(user_id), session_id) for session_id in session_ids]
    connection.executemany("DELETE FROM sessions WHERE userid = ? AND session_id = ?", keys)


def _delete_sessions(connection: sqlite3.Connection, user_id: UUID) -> None:
    connection.execute("DELETE FROM sessions WHERE userid = ?", (str(user_id),))


def _index(connection: sqlite3.Connection, account: Account) -> None:
    user_id = str(account.user_id)
    connection.execute("DELETE FROM search_terms WHERE userid = ?", (user_id,))
    rows = [(term, user_id) for term in terms(account.email, account.first_name, account.last_name)]
    connection.executemany("INSERT INTO search_terms (term, userid) VALUES (?, ?)", rows)


def _record(connection: sqlite3.Connection, event: Event) -> None:
    connection.execute(_INSERT_EVENT, event_row(event))
