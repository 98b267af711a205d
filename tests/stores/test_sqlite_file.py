"""The SQLite store's file: who can read it, what is on disk, and how it fails."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from killrvideo_grpc.domain.changes import Delete, Rename
from killrvideo_grpc.domain.errors import StoreUnavailable, UnusableStore
from killrvideo_grpc.stores.sqlite.schema import MIGRATIONS
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.support.accounts import HASH, a_cause, a_session, an_account, opening
from tests.support.metrics import StoreMetrics

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "killrvideo.db"


@pytest.fixture
def public_file(path: Path) -> Path:
    path.parent.mkdir()
    path.touch(0o644)
    return path


def modes(folder: Path) -> dict[str, int]:
    """Return the permissions of each file in a folder."""
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def publish(file: Path) -> None:
    file.chmod(0o644)


async def test_all_of_its_files_are_private(path: Path, public_file: Path) -> None:
    store = SqliteStore(public_file)
    account = an_account()
    await store.register(account, HASH, a_cause(account))
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert len(list(path.parent.iterdir())) > 1  # the write-ahead log is there too
    await store.close()


async def test_all_of_its_files_are_private_behind_a_link(path: Path, public_file: Path, tmp_path: Path) -> None:
    """As after a restore, by a link whose folder others can enter."""
    links = tmp_path / "links"
    links.mkdir()
    link = links / "current.db"
    (links / "hop.db").symlink_to(Path("..") / "folder" / path.name)
    link.symlink_to("hop.db")
    for restart in range(2):
        publish(public_file)
        store = SqliteStore(link)
        account = an_account()
        await store.register(account, HASH, a_cause(account))
        assert modes(path.parent) == dict.fromkeys([path.name, f"{path.name}-wal", f"{path.name}-shm"], 0o600), restart
        assert {file.name for file in links.iterdir()} == {"current.db", "hop.db"}
        await store.close()


async def test_a_link_may_lead_to_a_file_that_is_yet_to_be_made(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "current.db"
    link.symlink_to(path)
    await SqliteStore(link).close()
    assert modes(path.parent) == {path.name: 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_link_to_itself_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.name)
    with pytest.raises(UnusableStore, match="symbolic links"):
        SqliteStore(path)


async def test_a_link_that_leads_elsewhere_takes_no_more_accounts(path: Path, tmp_path: Path) -> None:
    link, account = tmp_path / "current.db", an_account()
    link.symlink_to(path)
    store = SqliteStore(link)
    await SqliteStore(tmp_path / "restored.db").close()
    link.unlink()
    link.symlink_to("restored.db")
    with pytest.raises(StoreUnavailable):
        await store.register(account, HASH, a_cause(account))
    await store.close()


async def test_its_folder_is_private(path: Path) -> None:
    await SqliteStore(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_every_transaction_is_synced_to_disk(path: Path) -> None:
    store = SqliteStore(path)
    connection = store._writer._connection
    assert connection.execute("PRAGMA synchronous").fetchall() == [(2,)]  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    await store.close()


async def test_what_was_deleted_is_not_on_disk(path: Path) -> None:
    store = SqliteStore(path)
    account = an_account(first_name="plantedname")
    await store.register(account, HASH, a_cause(account))
    await store.apply(account.user_id, opening(account, a_session(user_agent="plantedagent")), a_cause(account))
    await store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    await store.close()
    (left,) = path.parent.iterdir()  # closing moved the write-ahead log into the file
    assert b"planted" not in left.read_bytes()
    assert account.email.encode() not in left.read_bytes()


async def test_many_threads_may_make_the_file_at_once(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(SqliteStore, [path] * 8))
    account = an_account()
    await stores[0].register(account, HASH, a_cause(account))
    assert [await store.get(account.user_id) for store in stores] == [account] * 8
    for store in stores:
        await store.close()


def test_many_processes_may_make_the_file_at_once(path: Path) -> None:
    imports = "import pathlib, sys; from killrvideo_grpc.stores.sqlite.store import SqliteStore"
    script = f"{imports}; SqliteStore(pathlib.Path(sys.argv[1]))"
    makers = [subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT) for _ in range(4)]
    assert [maker.wait(30) for maker in makers] == [0] * 4


async def test_a_newer_file_is_refused(path: Path) -> None:
    await SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(UnusableStore, match=f"version {len(MIGRATIONS) + 1}.*up to {len(MIGRATIONS)}"):
        SqliteStore(path)


def test_a_database_of_another_program_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        with pytest.raises(UnusableStore, match="another program"):
            SqliteStore(path)
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("songs",)]


def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(UnusableStore, match="not a database"):
        SqliteStore(path)
    assert path.read_bytes() == b"not a database" * 100


def test_a_folder_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(UnusableStore, match="not a regular file"):
        SqliteStore(path)


@pytest.fixture
def broken_file(path: Path) -> Path:
    """A corrupt file that can still be opened, as its schema is intact."""
    asyncio.run(SqliteStore(path).close())
    with closing(sqlite3.connect(path)) as connection:
        roots = [root for (root,) in connection.execute("SELECT rootpage FROM sqlite_schema")]
    content = bytearray(path.read_bytes())
    for root in roots:
        content[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    return path


async def test_a_broken_file_is_unavailable_and_logged(broken_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = StoreMetrics("sqlite")
    store, account = SqliteStore(broken_file, metrics), an_account("planted@example.org")
    for call in (store.register(account, HASH, a_cause(account)), store.find_credentials(account.email)):
        with pytest.raises(StoreUnavailable):
            await call
        printed = capsys.readouterr()
        assert "SQLITE_CORRUPT" in printed.out + printed.err
        assert "planted" not in printed.out + printed.err
    await store.close()
    scraped = await metrics.scraped()
    for kind in ("register", "find_credentials"):
        assert scraped.value("store_request_duration_seconds_count", kind=kind, outcome="unavailable") == 1


async def test_a_file_that_is_deleted_takes_no_more_accounts(path: Path) -> None:
    store, account = SqliteStore(path), an_account()
    await store.register(account, HASH, a_cause(account))
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(StoreUnavailable):
        await store.apply(account.user_id, Rename("Bea", None), a_cause(account))
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.close()
    assert list(path.parent.iterdir()) == []


async def test_a_file_that_is_replaced_takes_no_more_accounts(path: Path, tmp_path: Path) -> None:
    store, account = SqliteStore(path), an_account()
    await SqliteStore(tmp_path / "restored.db").close()
    (tmp_path / "restored.db").replace(path)
    with pytest.raises(StoreUnavailable):
        await store.register(account, HASH, a_cause(account))
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.close()


FRAME = """
import asyncio, pathlib, resource, sys
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.support.accounts import HASH, a_session, an_account, a_cause

async def main(path):
    store = SqliteStore(path)
    kept, lost = an_account(), an_account()
    await store.register(kept, HASH, a_cause(kept))
{break_it}
    try:
        await store.register(lost, HASH, a_cause(lost))
        sys.exit("an account was taken")
    except StoreUnavailable:
        pass
    assert await store.get(kept.user_id) == kept
    assert await store.find_credentials(lost.email) is None
{mend_it}
    await store.register(lost, HASH, a_cause(lost))
    assert await store.get(lost.user_id) == lost
    await store.close()

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""
FULL_DISK = FRAME.format(
    break_it="""
    size = pathlib.Path(f"{path}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
""",
    mend_it="    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))",
)
# As on a read-only file system, but for root too.
READ_ONLY = FRAME.format(
    break_it="    store._writer._connection.execute('PRAGMA query_only = ON')",
    mend_it="    store._writer._connection.execute('PRAGMA query_only = OFF')",
)


@pytest.mark.parametrize("script", [FULL_DISK, READ_ONLY], ids=["full", "read-only"])
def test_a_registration_that_cannot_be_written_leaves_nothing(path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
