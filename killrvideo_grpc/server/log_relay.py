"""Standard error for child processes that share it with others: each line arrives whole."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FLUSH_TIMEOUT = 5.0  # seconds for a slow reader of standard error to take the last lines


@contextmanager
def relayed_stderr() -> Iterator[int]:
    """Provide the writing end of a pipe whose lines are copied to standard error, until all its writers have ended."""
    reader, writer = os.pipe()
    thread = threading.Thread(target=_copy_lines, args=(reader,), daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        os.close(writer)
        thread.join(FLUSH_TIMEOUT)


def _copy_lines(reader: int) -> None:
    with open(reader, "rb") as lines:
        for line in lines:
            with suppress(OSError, ValueError):  # nobody reads: the lines are lost
                sys.stderr.buffer.write(line if line.endswith(b"\n") else line + b"\n")
                sys.stderr.buffer.flush()
