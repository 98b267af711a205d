"""The work of `accounts import`: its output, its progress, and how it ends early."""

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from killrvideo_grpc.cli import account_import
from killrvideo_grpc.domain.account import Credentials
from killrvideo_grpc.domain.imports import IMPORT_BATCH
from killrvideo_grpc.migration.account_file import account_line, header
from tests.support.accounts import HASH, an_account
from tests.support.settings import settings_in

COUNT = 3 * IMPORT_BATCH
BROKEN = "line 2: refused: it is not JSON"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of accounts, the first of them broken."""
    path = tmp_path / "accounts.jsonl"
    lines = [account_line(Credentials(an_account(), HASH)) for _ in range(COUNT)]
    path.write_bytes(b"".join([header(), b"{\n", *lines]))
    return path


def import_file(path: Path) -> None:
    asyncio.run(account_import.import_file(settings_in(path.parent), path, dry_run=False))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_report_so_far(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if line == BROKEN:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(account_import, "print_line", interrupt)
    former = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        import_file(file)
    assert signal.getsignal(number) == former
    assert lines == [BROKEN, "Imported: 0. Already there: 0. Refused: 1."]


def test_output_that_cannot_be_written_is_no_unreadable_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(account_import, "print_line", fail)
    with pytest.raises(OSError, match="No space left"):
        import_file(file)


def test_progress_is_what_was_read_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advanced: list[int] = []

    @contextmanager
    def recorded(label: str, length: int | None, **options: Any) -> Iterator[Callable[[int], None]]:
        assert (label, length, options) == ("Importing", file.stat().st_size, {"percent": True})
        yield advanced.append

    monkeypatch.setattr(account_import, "progress", recorded)
    import_file(file)
    assert len(advanced) == COUNT // IMPORT_BATCH + 1
    assert all(step > 0 for step in advanced)
    assert sum(advanced) == file.stat().st_size
    assert capsys.readouterr().out == f"{BROKEN}\nImported: {COUNT}. Already there: 0. Refused: 1.\n"


def test_a_pipe_has_no_size(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, writer = os.pipe()
    os.write(writer, header() + account_line(Credentials(an_account(), HASH)))
    os.close(writer)
    asyncio.run(account_import.import_file(settings_in(file.parent), Path(f"/dev/fd/{pipe}"), dry_run=False))
    os.close(pipe)
    assert capsys.readouterr().out == "Imported: 1. Already there: 0. Refused: 0.\n"
