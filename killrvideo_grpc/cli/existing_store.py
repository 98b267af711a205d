"""Opening a store that must exist already, and one for a dry run."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.ports import AccountStore


@asynccontextmanager
async def existing_store(settings: Settings) -> AsyncIterator[AccountStore]:
    """Open the store of the settings, and close it in the end. Raise ClickException if SQLite's file is missing."""
    if settings.store == "sqlite" and not _is_there(settings.sqlite_path):
        text = f"There is no database at {settings.sqlite_path}."
        raise click.ClickException(f"{text} Run this in the directory where the service runs, or set SQLITE_PATH.")
    async with opened_store(settings) as store:
        yield store


@asynccontextmanager
async def unchanged_store(settings: Settings) -> AsyncIterator[AccountStore]:
    """Open a copy of SQLite's database, an empty one if it is missing, or Astra DB, where opening writes nothing."""
    from killrvideo_grpc.stores.sqlite.copy import copy_database

    with tempfile.TemporaryDirectory() as folder:
        if settings.store == "sqlite":
            copy = Path(folder) / "copy.db"
            if _is_there(settings.sqlite_path):
                copy_database(settings.sqlite_path, copy)
            settings = settings.model_copy(update={"sqlite_path": copy})
        async with opened_store(settings) as store:
            yield store


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[AccountStore]:
    """Open the store of the settings, and close it in the end."""
    from killrvideo_grpc.server.stores import open_store

    store = await open_store(settings)
    try:
        yield store
    finally:
        await store.close()


def _is_there(path: Path) -> bool:
    """Return whether the file exists. Raise ClickException if its folder can't be read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        text = f"The database at {path} can't be reached: {error.strerror}."
        raise click.ClickException(f"{text} Run this as the user who runs the service.") from None
    return True
