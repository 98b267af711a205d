"""How commands fail: with one message and exit status 1."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from killrvideo_grpc.domain.errors import SetupError, StoreUnavailable, UnusableStore

# A full disk, or a file that is not open for writing. Click handles a closed pipe.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class Commands(click.Group):
    """Commands that report what the operator can fix in one message instead of a traceback."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            drop_output()
            with suppress(OSError):
                click.echo(f"Error: Can't write to {error.filename or 'standard output'}: {error.strerror}.", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command in its context."""
        with _explained_errors():
            return super().invoke(ctx)


@contextmanager
def _explained_errors() -> Iterator[None]:
    """Turn errors that the operator can fix into one message and exit status 1."""
    try:
        yield
    except UnusableStore as error:
        raise click.ClickException(f"The store can't be used: {error}.") from None
    except SetupError as error:
        raise click.ClickException(str(error)) from None
    except StoreUnavailable as error:
        raise click.ClickException(f"The store does not answer as it should: {error}. Try again later.") from None


def require_output() -> None:
    """Raise click.ClickException if standard output is closed, before a command makes what it prints only once."""
    if sys.stdout is None:
        raise click.ClickException("Standard output is closed, so what this command prints would be lost.")


def drop_output() -> None:
    """Discard buffered output. Python would try to write it again at exit."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
