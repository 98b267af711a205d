"""What only the SQLite store promises: one private file, versions, and trouble with that file."""

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded, StoreUnavailable, UnusableStore
from killrvideo_grpc.stores.sqlite import MAX_WAIT, SqliteStore
from killrvideo_grpc.stores.sqlite_schema import MIGRATIONS
from tests.support.accounts import a_user
from tests.support.process import environment

HASH = "$2b$04$abcdefghijklmnopqrstuuGk5g4yLZu1bYF6bTzmmWYYOmZOuQxEW"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "killrvideo.db"


def test_all_of_its_files_are_private(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    store = SqliteStore(path)
    store.register(a_user(), HASH)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert len(list(path.parent.iterdir())) > 1  # the write-ahead log is there too
    store.close()


def test_its_folder_is_private(path: Path) -> None:
    SqliteStore(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_answered_is_on_disk(path: Path) -> None:
    store = SqliteStore(path)
    assert store._execute("PRAGMA synchronous") == [(2,)]  # FULL
    assert store._execute("PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_a_call_that_outlives_the_store_writes_nothing(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    with ThreadPoolExecutor(1) as late, pytest.raises(StoreUnavailable):
        late.submit(store.register, a_user(), HASH).result()
    with pytest.raises(StoreUnavailable):
        store.register(a_user(), HASH)
    with _connected(path) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)
    connection.close()


def test_a_write_that_waits_outlives_the_close_of_its_store(path: Path) -> None:
    """SQLite crashes the process when a connection is closed under a statement."""
    store = SqliteStore(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(5) as pool:
        writes = [pool.submit(store.register, a_user(), HASH) for _ in range(4)]
        while len(store._connections) < 5:  # the four writers' and the one of this thread
            pass
        closing = pool.submit(store.close)
        Event().wait(0.2)  # for the close to come while the writers wait
        holder.execute("ROLLBACK")
        closing.result(20)
        done = [write.exception(20) for write in writes]
    assert holder.execute("SELECT count(*) FROM users").fetchone() == (done.count(None),)
    assert all(isinstance(error, StoreUnavailable) for error in done if error)
    holder.close()


def test_many_may_make_the_file_at_once(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(SqliteStore, [path] * 8))
    user = a_user()
    stores[0].register(user, HASH)
    assert all(store.get(user.user_id) == user for store in stores)
    for store in stores:
        store.close()


def test_many_processes_may_make_the_file_at_once(path: Path, tmp_path: Path) -> None:
    imports = "import pathlib, sys; from killrvideo_grpc.stores.sqlite import SqliteStore"
    script = f"{imports}; SqliteStore(pathlib.Path(sys.argv[1]))"
    makers = [subprocess.Popen([sys.executable, "-c", script, str(path)], env=environment(tmp_path)) for _ in range(4)]
    assert [maker.wait(30) for maker in makers] == [0] * 4


def test_a_newer_file_is_refused(path: Path) -> None:
    SqliteStore(path).close()
    with _connected(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(UnusableStore, match=f"version {len(MIGRATIONS) + 1}.*up to {len(MIGRATIONS)}"):
        SqliteStore(path)


def test_a_database_of_another_program_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir()
    with _connected(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(UnusableStore, match="another program"):
        SqliteStore(path)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("songs",)]
    connection.close()


def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(UnusableStore, match="not a database"):
        SqliteStore(path)
    assert path.read_bytes() == b"not a database" * 100


def test_a_file_that_breaks_later_is_unavailable_and_logged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(path)
    store.close()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable):
        store.register(a_user("planted@example.org"), HASH)
    store.close()
    printed = capsys.readouterr()
    assert "SQLITE_CORRUPT" in printed.out + printed.err
    assert "planted" not in printed.out + printed.err


def test_a_file_that_is_deleted_takes_no_more_accounts(path: Path) -> None:
    store = SqliteStore(path)
    store.register(a_user(), HASH)
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(StoreUnavailable):
        store.register(a_user(), HASH)
    with pytest.raises(StoreUnavailable):
        store.ping()
    store.close()
    assert list(path.parent.iterdir()) == []


def test_a_locked_file_is_waited_for_in_vain(path: Path) -> None:
    store = SqliteStore(path)
    user = a_user()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with deadline.within(0.2), pytest.raises(DeadlineExceeded):
        store.register(user, HASH)
    with deadline.within(MAX_WAIT + 5), pytest.raises(StoreUnavailable):
        store.register(user, HASH)
    assert store.get(user.user_id) is None  # reading goes on while another writes
    holder.execute("COMMIT")
    holder.close()
    store.register(user, HASH)
    assert store.get(user.user_id) == user
    store.close()


FULL_DISK = """
import pathlib, resource, sys
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.sqlite import SqliteStore
from tests.support.accounts import a_user
path = pathlib.Path(sys.argv[1])
store = SqliteStore(path)
kept = a_user("kept@example.org")
store.register(kept, "hash")
size = pathlib.Path(f"{path}-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    store.register(a_user("lost@example.org"), "hash")
    sys.exit("a full disk took an account")
except StoreUnavailable:
    pass
assert store.get(kept.user_id) == kept
assert store.find_credentials("lost@example.org") is None
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.register(a_user("lost@example.org"), "hash")
"""

READ_ONLY = """
import pathlib, sys
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.sqlite import SqliteStore
from tests.support.accounts import a_user
store = SqliteStore(pathlib.Path(sys.argv[1]))
kept = a_user()
store.register(kept, "hash")
store._connection.raw.execute("PRAGMA query_only = ON")  # what a read-only file system answers, for root too
try:
    store.register(a_user("lost@example.org"), "hash")
    sys.exit("a read-only file took an account")
except StoreUnavailable:
    pass
assert store.get(kept.user_id) == kept
assert store.find_credentials("lost@example.org") is None
"""


@pytest.mark.parametrize("script", [FULL_DISK, READ_ONLY], ids=["full", "read-only"])
def test_what_can_not_be_written_leaves_no_half_account(path: Path, tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path)
