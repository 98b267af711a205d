"""Progress on standard error, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, length: int | None = None, *, percent: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar, and yield a function that advances it. Without a length, it counts."""
    hidden = not _is_on_terminal()
    # Click needs a length, or an iterable that doesn't know its own.
    iterable = _nothing() if length is None else None
    with click.progressbar(iterable, length, label, hidden=hidden, show_pos=not percent, file=sys.stderr) as bar:
        yield bar.update


def print_line(line: str) -> None:
    """Print a line on standard output at once. On a terminal, it takes the place of the bar until that moves on."""
    if _is_on_terminal():
        click.echo("\r\x1b[K", err=True, nl=False)
    click.echo(line)


def _is_on_terminal() -> bool:
    # None if it was closed when the process started.
    return sys.stderr is not None and sys.stderr.isatty()


def _nothing() -> Iterator[int]:
    yield from ()
