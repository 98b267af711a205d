"""A full disk under the SQLite file: writes fail with a metric of their own, and reads work."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from killrvideo_grpc.domain.changes import Rename
from killrvideo_grpc.stores.sqlite.file import DiskFull
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.support.accounts import HASH, a_cause, an_account
from tests.support.metrics import StoreMetrics

if TYPE_CHECKING:
    from killrvideo_grpc.domain.account import Account

pytestmark = pytest.mark.anyio


def limit_pages(store: SqliteStore, count: int) -> None:
    """Limit the file to this many pages. SQLite then fails as on a full disk."""
    store._writer._connection.execute(f"PRAGMA max_page_count = {count}")


async def fill(store: SqliteStore) -> None:
    for _ in range(1000):
        account = an_account(first_name="A" * 50, last_name="B" * 50)
        await store.register(account, HASH, a_cause(account))


async def test_a_full_disk_is_named_and_stops_writes_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = StoreMetrics("sqlite")
    store = SqliteStore(tmp_path / "accounts.db", metrics)
    account: Account = an_account()
    await store.register(account, HASH, a_cause(account))
    limit_pages(store, 30)
    with pytest.raises(DiskFull):
        await fill(store)
    scraped = await metrics.scraped()
    assert scraped.value("store_request_duration_seconds_count", kind="register", outcome="disk_full") == 1
    assert capsys.readouterr().out.count("disk full") == 1
    assert await store.get(account.user_id) == account
    await store.ping()
    limit_pages(store, 10_000)  # room was made
    assert (await store.apply(account.user_id, Rename("Bea", None), a_cause(account))).first_name == "Bea"
    await store.close()
