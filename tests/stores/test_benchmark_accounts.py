"""The accounts that the benchmark writes into a database file by itself."""

from pathlib import Path
from uuid import UUID

import pytest

from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.bench.accounts import RARE_NAME, insert_accounts

pytestmark = pytest.mark.anyio


async def test_they_have_a_session_and_are_found(tmp_path: Path) -> None:
    file = tmp_path / "killrvideo.db"
    ids = insert_accounts(file, 100, rare=10)
    store = SqliteStore(file)
    account = await store.get(UUID(ids[0]))
    assert account
    assert set(account.sessions) == {ids[0]}
    assert len((await store.search(Query.parse(RARE_NAME), 20)).items) == 10
    await store.close()
