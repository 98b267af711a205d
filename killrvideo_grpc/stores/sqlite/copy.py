"""Copying the database."""

import sqlite3
from contextlib import closing
from pathlib import Path

from killrvideo_grpc.domain.errors import UnusableStore


def copy_database(path: Path, copy: Path) -> None:
    """Copy a database that others may be writing to. Raise UnusableStore."""
    try:
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise UnusableStore(f"{path}: {error}") from None
