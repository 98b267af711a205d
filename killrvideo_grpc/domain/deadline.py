"""The time that the present call has left. Set where calls come in, asked where they wait: stores and hashing."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from killrvideo_grpc.domain.errors import DeadlineExceeded

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Gives what runs inside `seconds` from now; infinity is no limit."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left(at_most: float) -> float:
    """Returns the seconds that the present call may still wait: never more than `at_most`, always more than 0.

    Raises DeadlineExceeded when there are none left.
    """
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded
    return min(left, at_most)


def is_over() -> bool:
    """Says whether the present call has used up its time."""
    return _deadline.get() <= time.monotonic()
