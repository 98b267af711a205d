"""Writes every account of a store to a new file. It appears when it is complete."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.migration import account_file


async def export_accounts(store: AccountStore, path: Path, advance: Callable[[int], object]) -> int:
    """Write the file and return the number of accounts. Raise SetupError and the errors of the store."""
    count = 0
    with _new_file(path) as file:
        file.write(account_file.header())
        async for page in store.all_credentials():
            file.writelines(map(account_file.account_line, page))
            count += len(page)
            advance(len(page))
    return count


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a private file in the same directory. Rename it to `path` in the end, or remove it if the body fails."""
    if not path.name or os.path.lexists(path):
        raise SetupError(f"{path} can't be written: it exists.")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            _rename_exclusively(partial, path)
        finally:
            with suppress(OSError):
                partial.unlink()
    except OSError as error:
        raise SetupError(f"{path} can't be written: {error.strerror}.") from None


def _rename_exclusively(partial: Path, path: Path) -> None:
    """Rename the file. Raise OSError if `path` exists by now."""
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        # The file system has no hard links: reserve the name first.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        partial.replace(path)
