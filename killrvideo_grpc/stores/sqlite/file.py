"""The database file: private to its owner, and checked for replacement."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog

from killrvideo_grpc.domain.errors import StoreUnavailable

_log = structlog.get_logger()


class DiskFull(StoreUnavailable):
    """The disk is full. Reads still work."""

    outcome = "disk_full"


class DatabaseFile:
    """The file at `path`, which may be a link. Creates it and its folder if they are missing, both private."""

    def __init__(self, path: Path) -> None:
        self._link = path
        self._path = Path(os.path.realpath(path))  # SQLite puts its -wal and -shm files beside this one
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.exists() and not self._path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._identity = self._look()

    def connect(self, max_wait: float) -> sqlite3.Connection:
        """Open a connection in autocommit mode. It waits up to `max_wait` seconds for locks of other connections."""
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",  # never create the file: others could read it
            uri=True,
            timeout=max_wait,
            isolation_level=None,
            check_same_thread=False,  # opened on one thread, used on another
        )
        with ExitStack() as stack:
            stack.callback(connection.close)
            connection.execute("PRAGMA synchronous = FULL")  # committed writes survive a power cut
            connection.execute("PRAGMA secure_delete = ON")  # deleted data is overwritten
            stack.pop_all()  # nothing failed: the caller closes it
        return connection

    def make_private(self) -> None:
        """Make the file and its -wal and -shm files private to their owner."""
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.chmod(0o600)

    def fail_if_replaced(self) -> None:
        """Raise OSError if the file was deleted or replaced. SQLite would keep writing to the old one."""
        if self._look() != self._identity:
            raise OSError(errno.ESTALE, "the file was replaced")

    def _look(self) -> tuple[int, int]:
        status = self._link.stat()
        return status.st_dev, status.st_ino


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Begin a transaction with the statement `begin`. Commit after the body; roll back if either fails."""
    connection.execute(begin)
    with connection:
        yield


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection's lock is the cause: SQLITE_BUSY or one of its extended codes."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def unavailable(error: sqlite3.Error | OSError) -> StoreUnavailable:
    """Log the name of the cause, without values, and return the error to raise."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        _log.error("disk full", store="sqlite")
        return DiskFull("the disk is full")
    cause = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None) or type(error).__name__
    _log.error("store failed", store="sqlite", cause=cause)
    return StoreUnavailable(cause)
