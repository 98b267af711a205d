"""Accounts move from each kind of store to another, and come out equal."""

import errno
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from killrvideo_grpc.domain.account import Account, Credentials
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.migration.account_file import account_line, header, read_accounts
from killrvideo_grpc.migration.exporter import export_accounts
from killrvideo_grpc.migration.importer import Importer
from tests.stores.harness import STORES, Harness
from tests.support.accounts import HASH, an_account, imported, registered
from tests.support.migration import stored_credentials

FRESH_EMAILS = st.builds(lambda word: f"{word}.{uuid4().hex}@example.org", st.text("abcXYZ", min_size=1, max_size=5))


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Harness]]:
    with ExitStack() as stack:
        kinds = [kind for kind in STORES if kind != "memory"]
        yield {kind: stack.enter_context(STORES[kind](tmp_path_factory.mktemp(kind))) for kind in kinds}


@asynccontextmanager
async def opened(harness: Harness) -> AsyncIterator[AccountStore]:
    store = harness.open()
    try:
        yield store
    finally:
        await store.close()


async def carried(databases: dict[str, Harness], written: list[Credentials]) -> list[list[Credentials]]:
    """Carry accounts from store to store, and back to the first kind. Return what each export gave."""
    given = [account_line(each) for each in written]
    exports = []
    for harness in (*databases.values(), *databases.values()):
        async with opened(harness) as store:
            lines: list[str] = []
            importer = Importer(store, "cli:ann", dry_run=False, say=lines.append)
            await importer.run(read_accounts(io.BytesIO(header() + b"".join(given))))
            assert not [line for line in lines if "refused" in line]
            assert importer.counts.imported + importer.counts.existing == len(written)
            exports.append(found := await exported(store, [each.account for each in written]))
            given = [account_line(each) for each in found]
    return exports


async def exported(store: AccountStore, accounts: list[Account]) -> list[Credentials]:
    wanted = {account.user_id for account in accounts}
    found = [each async for page in store.all_credentials() for each in page if each.account.user_id in wanted]
    return sorted(found, key=lambda each: each.account.user_id)


@settings(max_examples=8)
@given(st.lists(stored_credentials(st.builds(uuid4), FRESH_EMAILS), max_size=4))
def test_accounts_come_out_equal_wherever_they_are_moved(
    databases: dict[str, Harness], written: list[Credentials]
) -> None:
    with start_blocking_portal() as portal:
        exports = portal.call(carried, databases, written)
    expected = [bare(each) for each in sorted(written, key=lambda each: each.account.user_id)]
    for found in exports:
        assert [bare(each) for each in found] == expected


def listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def bare(credentials: Credentials) -> Credentials:
    """Return what moves: not the name of the password, which is new in each store."""
    return replace(credentials, account=replace(credentials.account, credential_id=""))


@pytest.mark.anyio
async def test_an_export_is_a_new_private_file(tmp_path: Path, store: AccountStore, account: Account) -> None:
    file, advanced = tmp_path / "accounts.jsonl", list[int]()
    count = await export_accounts(store, file, advanced.append)
    assert sum(advanced) == count
    assert file.stat().st_mode & 0o777 == 0o600
    lines = file.read_bytes().splitlines(keepends=True)
    assert lines[0] == header()
    assert account_line(Credentials(account, HASH)) in lines
    assert listed(tmp_path) == [file]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
async def test_an_export_replaces_nothing(tmp_path: Path, store: AccountStore, account: Account, kind: str) -> None:
    file, other = tmp_path / "accounts.jsonl", tmp_path / "other"
    if kind == "file":
        file.write_text("mine")
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(other)
    if kind == "link":
        other.write_text("mine")
    before = listed(tmp_path)
    with pytest.raises(SetupError, match="can't be written: it exists"):
        await export_accounts(store, file, lambda _: None)
    assert listed(tmp_path) == before
    assert not other.exists() or other.read_text() == "mine"


@pytest.mark.anyio
async def test_a_file_that_appears_during_the_export_stays(
    tmp_path: Path, store: AccountStore, account: Account
) -> None:
    file = tmp_path / "accounts.jsonl"
    with pytest.raises(SetupError, match="can't be written: File exists"):
        await export_accounts(store, file, lambda _: file.write_text("mine"))
    assert file.read_text() == "mine"
    assert listed(tmp_path) == [file]


@pytest.mark.anyio
async def test_a_failed_export_leaves_nothing(tmp_path: Path, store: AccountStore, account: Account) -> None:
    def fail(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await export_accounts(store, tmp_path / "accounts.jsonl", fail)
    assert listed(tmp_path) == []
    with pytest.raises(SetupError, match="No such file or directory"):
        await export_accounts(store, tmp_path / "nowhere" / "accounts.jsonl", lambda _: None)


@pytest.mark.anyio
async def test_an_export_during_registrations_has_who_was_there(store: AccountStore) -> None:
    accounts = [an_account() for _ in range(26)]  # with their claims, more than a page of a Data API
    await imported(store, accounts)
    found, late = list[UUID](), 0
    async for page in store.all_credentials():
        found += [each.account.user_id for each in page]
        late += 1
        if late <= 3:
            await registered(store)
    assert len(found) == len(set(found))
    assert {account.user_id for account in accounts} <= set(found)


@pytest.mark.anyio
@pytest.mark.parametrize("is_there", [False, True])
async def test_an_export_where_files_have_no_second_name(
    tmp_path: Path, store: AccountStore, account: Account, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    file = tmp_path / "accounts.jsonl"

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    if is_there:
        with pytest.raises(SetupError, match="File exists"):
            await export_accounts(store, file, lambda _: file.write_text("mine"))
        assert file.read_text() == "mine"
    else:
        await export_accounts(store, file, lambda _: None)
        assert file.read_bytes().startswith(header())
        assert file.stat().st_mode & 0o777 == 0o600
    assert listed(tmp_path) == [file]
