"""The schema of the SQLite file and its migrations. Its version is the file's `user_version`."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from killrvideo_grpc.domain.errors import UnusableStore

APPLICATION_ID = 0x4B56_5553  # "KVUS", so that a database of something else is not taken for ours

# Forward only: entry n takes a file of version n to version n + 1. An entry that was released is never changed.
MIGRATIONS = (
    # 1: KillrVideo's own columns of `users`, and what a login needs. An address is claimed by being unique.
    """
    CREATE TABLE users (
        userid TEXT PRIMARY KEY NOT NULL,
        claimed_email TEXT UNIQUE NOT NULL,
        email TEXT NOT NULL,
        hashed_password TEXT NOT NULL,
        firstname TEXT NOT NULL,
        lastname TEXT NOT NULL,
        account_status TEXT NOT NULL,
        roles TEXT NOT NULL, -- a JSON array of role names
        created_date INTEGER NOT NULL, -- milliseconds since 1970, UTC
        last_login_date INTEGER -- likewise; NULL before the first login
    ) WITHOUT ROWID;
    """,
)


def migrate(connection: sqlite3.Connection, seconds: float) -> None:
    """Brings the file to the newest schema, once, however many processes try at once, each for so long at most.

    Raises UnusableStore.
    """
    with _transaction(connection, "BEGIN"):
        if _version(connection) == len(MIGRATIONS):
            return
    _use_write_ahead_log(connection, time.monotonic() + seconds)
    with _transaction(connection, "BEGIN IMMEDIATE"):
        for statement in MIGRATIONS[_version(connection) :]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    # Leaving it by an exception rolls back; by a return, commits.
    connection.execute(begin)
    with connection:
        yield


def _use_write_ahead_log(connection: sqlite3.Connection, until: float) -> None:
    # The file remembers it. Where several processes make the file at once, SQLite calls it busy without waiting.
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and tables:
        raise UnusableStore("the file is a database of another program; set SQLITE_PATH to another one")
    if version > len(MIGRATIONS):
        raise UnusableStore(
            f"the file's schema has version {version} and this program knows versions up to {len(MIGRATIONS)}; "
            "start the newer killrvideo-grpc that made it"
        )
    return int(version)
