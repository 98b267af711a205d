"""The time that the present call has left. Set where calls come in, asked where they wait: stores and hashing.

A call whose caller hung up has none left.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from killrvideo_grpc.domain.errors import DeadlineExceeded

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_is_gone: ContextVar[Callable[[], bool]] = ContextVar("is_gone", default=lambda: False)


@contextmanager
def of_call(seconds: float, is_gone: Callable[[], bool]) -> Iterator[None]:
    """Gives what runs inside `seconds` from now, as long as the caller `is_gone` not."""
    token = _is_gone.set(is_gone)
    try:
        with within(seconds):
            yield
    finally:
        _is_gone.reset(token)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Gives what runs inside `seconds` from now, or what is left of an outer limit; infinity is no limit."""
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left(at_most: float) -> float:
    """Returns the seconds that the present call may still wait: never more than `at_most`, always more than 0.

    Raises DeadlineExceeded when there are none left.
    """
    left = _deadline.get() - time.monotonic()
    if left <= 0 or _is_gone.get()():
        raise DeadlineExceeded
    return min(left, at_most)


def is_over() -> bool:
    """Says whether the present call has used up its time, or nobody waits for it any more."""
    return _deadline.get() <= time.monotonic() or _is_gone.get()()
