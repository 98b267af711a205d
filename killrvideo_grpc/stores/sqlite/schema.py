"""The schema of the SQLite file and its migrations. The file's `user_version` is the schema's version."""

import json
import sqlite3
import time

from killrvideo_grpc.domain.errors import UnusableStore
from killrvideo_grpc.domain.search import terms
from killrvideo_grpc.stores.sqlite.file import transaction

APPLICATION_ID = 0x4B56_5553  # "KVUS", so that another program's database is not mistaken for ours

FILL_SEARCH_TERMS = """
INSERT INTO search_terms (term, userid)
SELECT terms.value, userid FROM accounts, json_each(search_terms(email, firstname, lastname)) AS terms
WHERE account_status != 'deleted'
"""

# Forward only: MIGRATIONS[n] takes a file from version n to n + 1. Released migrations never change.
MIGRATIONS = (
    # 1: accounts, their sessions and the audit trail. Columns that KillrVideo has too are named as there.
    (
        """
        CREATE TABLE accounts (
            userid TEXT PRIMARY KEY NOT NULL,
            claimed_email TEXT UNIQUE, -- the normal form; NULL once the account is deleted
            email TEXT NOT NULL, -- as it was typed
            firstname TEXT NOT NULL,
            lastname TEXT NOT NULL,
            roles TEXT NOT NULL, -- a JSON array of names
            account_status TEXT NOT NULL,
            credential_id TEXT NOT NULL, -- names the current password
            hashed_password TEXT NOT NULL,
            created_date INTEGER NOT NULL, -- milliseconds since 1970, UTC, like all dates
            last_login_date INTEGER -- NULL before the first login
        ) WITHOUT ROWID
        """,
        # To find out whether other active moderators are left.
        """
        CREATE INDEX active_moderators ON accounts (userid)
        WHERE account_status = 'active' AND instr(roles, '"moderator"')
        """,
        """
        CREATE TABLE sessions (
            userid TEXT NOT NULL,
            session_id TEXT NOT NULL,
            credential_id TEXT NOT NULL, -- the session counts while its account's is the same
            generation INTEGER NOT NULL,
            created_date INTEGER NOT NULL,
            refreshed_date INTEGER NOT NULL,
            user_agent TEXT NOT NULL,
            PRIMARY KEY (userid, session_id)
        ) WITHOUT ROWID
        """,
        # Listed newest first: all events by primary key, those of one account by the index below.
        """
        CREATE TABLE events (
            at INTEGER NOT NULL,
            event_id TEXT NOT NULL,
            account TEXT NOT NULL, -- the userid of the account that it happened to
            action TEXT NOT NULL,
            actor TEXT NOT NULL,
            reason TEXT NOT NULL,
            request_id TEXT NOT NULL,
            before TEXT NOT NULL,
            after TEXT NOT NULL,
            PRIMARY KEY (at, event_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX events_of_account ON events (account, at, event_id)",
    ),
    # 2: the words of the search.
    (
        """
        CREATE TABLE search_terms (
            term TEXT NOT NULL,
            userid TEXT NOT NULL,
            PRIMARY KEY (term, userid)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX search_terms_of_account ON search_terms (userid)",
        FILL_SEARCH_TERMS,
    ),
    # 3: counters of attempts, and the sources of logins.
    (
        """
        CREATE TABLE attempts (
            slot INTEGER PRIMARY KEY NOT NULL,
            value INTEGER NOT NULL -- a count and its window: see attempt_values.py
        )
        """,
        # A JSON object: digests of sources, and the date of the last login from each.
        "ALTER TABLE accounts ADD COLUMN sources TEXT NOT NULL DEFAULT '{}'",
    ),
    # 4: a new password deletes the sessions of the old one, so they need not name it.
    (
        """
        DELETE FROM sessions WHERE credential_id !=
        (SELECT credential_id FROM accounts WHERE accounts.userid = sessions.userid)
        """,
        "ALTER TABLE sessions DROP COLUMN credential_id",
    ),
    # 5: services, callers without an account.
    (
        """
        CREATE TABLE services (
            name TEXT PRIMARY KEY NOT NULL,
            grants TEXT NOT NULL, -- a JSON array of names
            tokens TEXT NOT NULL -- a JSON array of [SHA-256 of a token, date], the oldest first
        ) WITHOUT ROWID
        """,
    ),
    # 6: password resets, and the lifting of throttling.
    (
        # A JSON object: the code's SHA-256, its expiry, and whether an operator made it. NULL without a code.
        "ALTER TABLE accounts ADD COLUMN reset_code TEXT",
        "ALTER TABLE accounts ADD COLUMN unblocked_date INTEGER",
    ),
)


def migrate(connection: sqlite3.Connection, seconds: float) -> None:
    """Upgrade the file to the newest schema. Several processes can do so at once.

    Wait up to `seconds` for locks of the others. Raise UnusableStore if the file is not ours or is too new.
    """
    with transaction(connection, "BEGIN"):
        if _version(connection) == len(MIGRATIONS) and _journal_mode(connection) == "wal":
            return
    _use_write_ahead_log(connection, time.monotonic() + seconds)
    connection.create_function("search_terms", 3, _search_terms)
    with transaction(connection, "BEGIN IMMEDIATE"):
        for statements in MIGRATIONS[_version(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _search_terms(email: str, first_name: str, last_name: str) -> str:
    return json.dumps(sorted(terms(email, first_name, last_name)))


def _use_write_ahead_log(connection: sqlite3.Connection, until: float) -> None:
    # If several processes set the mode at once, SQLite reports SQLITE_BUSY without waiting.
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _journal_mode(connection: sqlite3.Connection) -> str:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return str(mode)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and tables:
        raise UnusableStore("the file is a database of another program; set SQLITE_PATH to another file")
    if version > len(MIGRATIONS):
        raise UnusableStore(
            f"the file has schema version {version}, but this killrvideo-grpc only supports versions up to "
            f"{len(MIGRATIONS)}; start a newer killrvideo-grpc"
        )
    return int(version)
