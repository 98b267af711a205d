"""Progress on standard error, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, length: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar, and yield a function that advances it. Without a length, it counts."""
    hidden = not sys.stderr.isatty()
    total = length or None
    # Without a length, click needs an iterable.
    iterable: Iterator[int] | None = None if total else iter(())
    with click.progressbar(
        iterable, total, label, hidden=hidden, show_pos=True, show_percent=bool(total), file=sys.stderr
    ) as bar:
        yield bar.update
