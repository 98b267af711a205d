"""The database file: private to its owner, opened but never made by SQLite, and recognised when it is replaced."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog

from killrvideo_grpc.domain.errors import StoreUnavailable

_log = structlog.get_logger("killrvideo_grpc.stores.sqlite")


class DatabaseFile:
    """The file at `path`. Makes it, and its folder, where they are missing: readable by their owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no file")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._identity = self._look()

    def connect(self, max_wait: float) -> sqlite3.Connection:
        """Opens a connection in autocommit that waits so many seconds at most for another one's lock."""
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",  # never makes a file: others could read it
            uri=True,
            timeout=max_wait,
            isolation_level=None,
            check_same_thread=False,  # opened by whoever makes the store, used by one other thread
        )
        with ExitStack() as stack:
            stack.callback(connection.close)
            connection.execute("PRAGMA synchronous = FULL")  # what was answered OK survives a power cut
            connection.execute("PRAGMA secure_delete = ON")  # what was deleted is overwritten
            stack.pop_all()  # nothing failed: whoever asked for the connection closes it
        return connection

    def close_to_others(self) -> None:
        """Takes the rights of all but the owner from the file, which may have been there before, and its companions."""
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.chmod(0o600)

    def fail_if_replaced(self) -> None:
        """Raises OSError where SQLite would go on writing to a file that nobody will ever find again."""
        if self._look() != self._identity:
            raise OSError(errno.ESTALE, "the file was replaced")

    def _look(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_dev, status.st_ino


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Commits at the end of the block, and rolls back when an exception leaves it or the commit fails."""
    connection.execute(begin)
    with connection:
        yield


def is_busy(error: sqlite3.Error) -> bool:
    """Says whether another connection's lock is the reason. SQLite puts details above the lowest eight bits."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def unavailable(error: sqlite3.Error | OSError) -> StoreUnavailable:
    """Logs the cause by its name, without values, and returns what the caller is told."""
    cause = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None)
    _log.error("store failed", store="sqlite", cause=cause or type(error).__name__)
    return StoreUnavailable()
