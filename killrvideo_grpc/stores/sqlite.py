"""Accounts in one SQLite file: the default store. Safe for the threads of several processes on one machine."""

import errno
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import (
    DeadlineExceeded,
    EmailAlreadyRegistered,
    StoreUnavailable,
    UnusableStore,
    UserNotFound,
)
from killrvideo_grpc.domain.user import Credentials, Role, User, normal_email, read_roles, read_status
from killrvideo_grpc.stores.sqlite_schema import migrate

MAX_WAIT = 5.0  # seconds that a call waits for another's lock when its own time allows more
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
USER_COLUMNS = "userid, email, firstname, lastname, roles, account_status, created_date, last_login_date"

_log = structlog.get_logger("killrvideo_grpc.stores.sqlite")


class SqliteStore:
    """Implements `UserStore`. Makes the file, readable by its owner only, and its folder where they are missing.

    Raises UnusableStore when the file can't be opened, is not ours, or is too new.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[_Connection] = []
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            _make_private_file(path)
            self._file = _identity(path)
            migrate(self._connection.raw, MAX_WAIT)
            _close_to_others(path)  # now that it is known to be ours
        except (sqlite3.Error, OSError) as error:
            raise UnusableStore(f"{path}: {getattr(error, 'strerror', None) or error}") from None

    def register(self, user: User, password_hash: str) -> None:
        with self._failures():
            try:
                self._execute(
                    f"INSERT INTO users ({USER_COLUMNS}, claimed_email, hashed_password)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    *_user_row(user),
                    normal_email(user.email),
                    password_hash,
                )
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorname != "SQLITE_CONSTRAINT_UNIQUE":
                    raise
                raise EmailAlreadyRegistered from None

    def find_credentials(self, email: str) -> Credentials | None:
        with self._failures():
            rows = self._execute(
                f"SELECT {USER_COLUMNS}, hashed_password FROM users WHERE claimed_email = ?", normal_email(email)
            )
        return Credentials(registered=_user(rows[0][:-1]), password_hash=rows[0][-1]) if rows else None

    def get(self, user_id: UUID) -> User | None:
        with self._failures():
            rows = self._execute(f"SELECT {USER_COLUMNS} FROM users WHERE userid = ?", str(user_id))
        return _user(rows[0]) if rows else None

    def get_registered(self, credentials: Credentials) -> User | None:
        # An account is one row here, so a crash leaves nothing to mend.
        return self.get(credentials.registered.user_id)

    def record_login(self, user_id: UUID, at: datetime) -> None:
        with self._failures():
            self._execute("UPDATE users SET last_login_date = ? WHERE userid = ?", _to_millis(at), str(user_id))

    def replace_password_hash(self, email: str, old: str, new: str) -> None:
        with self._failures():
            self._execute(
                "UPDATE users SET hashed_password = ? WHERE claimed_email = ? AND hashed_password = ?",
                new,
                normal_email(email),
                old,
            )

    def rename(self, user: User, first_name: str | None, last_name: str | None) -> User:
        with self._failures():
            rows = self._execute(
                "UPDATE users SET firstname = coalesce(?, firstname), lastname = coalesce(?, lastname)"
                f" WHERE userid = ? RETURNING {USER_COLUMNS}",
                first_name,
                last_name,
                str(user.user_id),
            )
        if not rows:
            raise UserNotFound
        return _user(rows[0])

    def add_role(self, user_id: UUID, role: Role) -> None:
        self._change_roles(user_id, "SELECT value FROM json_each(roles) UNION SELECT ?", role)

    def remove_role(self, user_id: UUID, role: Role) -> None:
        self._change_roles(user_id, "SELECT value FROM json_each(roles) WHERE value != ?", role)

    def ping(self) -> None:
        with self._failures():
            self._fail_if_replaced()
            self._execute("SELECT 1 FROM users LIMIT 1")

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for connection in self._connections:
                connection.close()

    def _change_roles(self, user_id: UUID, selection: str, role: Role) -> None:
        # One statement, so that changes made at once all count.
        with self._failures():
            self._execute(
                f"UPDATE users SET roles = (SELECT json_group_array(value) FROM ({selection})) WHERE userid = ?",
                role,
                str(user_id),
            )

    def _execute(self, statement: str, *values: str | int | None) -> list[Any]:
        # Reads wait for no writer and are most of the calls. A step that lets go of the GIL costs more than it takes.
        wait = MAX_WAIT
        if not statement.startswith("SELECT"):
            self._fail_if_replaced()
            wait = deadline.time_left(at_most=MAX_WAIT)
        return self._connection.execute(statement, values, wait)

    def _fail_if_replaced(self) -> None:
        # SQLite would go on writing to a file that nobody will ever find again.
        if _identity(self._path) != self._file:
            raise OSError(errno.ESTALE, "the file was replaced")

    @property
    def _connection(self) -> "_Connection":
        """The thread's own connection."""
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _Connection(self._path)
            with self._lock:
                self._connections.append(connection)
                if self._is_closed:  # a call outlived the server, whose successor may already be at work
                    connection.close()
        return connection

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            cause = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None)
            _log.error("store failed", store="sqlite", cause=cause or type(error).__name__)
            if deadline.is_over():
                raise DeadlineExceeded from None
            raise StoreUnavailable from None


class _Connection:
    """A connection for one thread, in autocommit, so each statement is a transaction. Another thread may close it."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()  # to close a connection under a running statement crashes the process
        self._wait = MAX_WAIT
        self.raw = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # never makes a file: others could read it
            uri=True,
            timeout=MAX_WAIT,
            isolation_level=None,
            check_same_thread=False,
        )
        # What was answered OK survives a power cut too.
        self.raw.execute("PRAGMA synchronous = FULL")

    def execute(self, statement: str, values: Sequence[str | int | None], wait: float) -> list[Any]:
        """Runs a statement, which may wait so many seconds for another's lock, and returns its rows."""
        with self._lock:
            if wait != self._wait:
                self.raw.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
                self._wait = wait
            return self.raw.execute(statement, values).fetchall()

    def close(self) -> None:
        """Closes it, once no statement runs: a call that outlives the server may still wait for a lock."""
        with self._lock:
            self.raw.close()


def _make_private_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _close_to_others(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.chmod(0o600)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _user_row(user: User) -> tuple[str | int | None, ...]:
    return (
        str(user.user_id),
        user.email,
        user.first_name,
        user.last_name,
        json.dumps(sorted(user.roles)),
        user.status,
        _to_millis(user.created_date),
        None if user.last_login_date is None else _to_millis(user.last_login_date),
    )


def _user(row: tuple[str, str, str, str, str, str, int, int | None]) -> User:
    userid, email, first_name, last_name, roles, status, created, last_login = row
    return User(
        user_id=UUID(userid),
        email=email,
        first_name=first_name,
        last_name=last_name,
        roles=read_roles(json.loads(roles)),
        status=read_status(status),
        created_date=_to_datetime(created),
        last_login_date=None if last_login is None else _to_datetime(last_login),
    )


def _to_millis(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _to_datetime(millis: int) -> datetime:
    return EPOCH + timedelta(milliseconds=millis)
