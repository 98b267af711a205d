"""Opening a store that must exist already."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.ports import AccountStore


@asynccontextmanager
async def existing_store(settings: Settings) -> AsyncIterator[AccountStore]:
    """Open the store of the settings, and close it in the end. Raise ClickException if SQLite's file is missing."""
    from killrvideo_grpc.server.bootstrap import open_store

    if settings.store == "sqlite":
        _find_database(settings.sqlite_path)
    store = await open_store(settings)
    try:
        yield store
    finally:
        await store.close()


def _find_database(path: Path) -> None:
    try:
        if path.exists():
            return
    except OSError as error:
        text = f"The database at {path} can't be reached: {error.strerror}."
        raise click.ClickException(f"{text} Run this as the user who runs the service.") from None
    text = f"There is no database at {path}."
    raise click.ClickException(f"{text} Run this in the directory where the service runs, or set SQLITE_PATH.")
