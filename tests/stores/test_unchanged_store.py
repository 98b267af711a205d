"""The store of a dry run."""

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click import ClickException

from killrvideo_grpc.cli.existing_store import unchanged_store
from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import UnusableStore
from killrvideo_grpc.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.support.accounts import HASH, a_cause, an_account
from tests.support.settings import settings_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


async def test_it_has_the_accounts_and_keeps_changes_to_itself(settings: Settings) -> None:
    there, new = an_account(), an_account()
    store = SqliteStore(settings.sqlite_path)
    await store.register(there, HASH, a_cause(there))
    async with unchanged_store(settings) as copy:
        assert await copy.get(there.user_id) == there
        await copy.register(new, HASH, a_cause(new))
    assert await store.get(new.user_id) is None
    await store.close()


@pytest.mark.parametrize("version", [0, 1], ids=["empty", "older"])
async def test_an_empty_or_older_database_is_not_migrated(settings: Settings, version: int) -> None:
    settings.sqlite_path.touch()
    with closing(sqlite3.connect(settings.sqlite_path)) as connection:
        if version:
            for statement in MIGRATIONS[0]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA user_version = 1")
    before = settings.sqlite_path.read_bytes()
    async with unchanged_store(settings) as copy:
        assert await copy.get(an_account().user_id) is None
    assert settings.sqlite_path.read_bytes() == before
    assert list(settings.sqlite_path.parent.iterdir()) == [settings.sqlite_path]


async def test_a_missing_database_is_not_made(settings: Settings) -> None:
    async with unchanged_store(settings) as copy:
        assert await copy.get(an_account().user_id) is None
    assert not settings.sqlite_path.exists()


async def test_a_file_that_is_no_database_is_unusable(settings: Settings) -> None:
    settings.sqlite_path.write_text("no database" * 100)
    with pytest.raises(UnusableStore, match=r"killrvideo\.db: file is not a database"):
        async with unchanged_store(settings):
            pass


async def test_a_folder_without_access_is_one_message(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ClickException, match="can't be reached: Permission denied"):
        async with unchanged_store(settings):
            pass
