"""The time that the present call has left. Set where calls come in, asked where they wait: stores and hashing."""

import time
from contextvars import ContextVar

from killrvideo_grpc.domain.errors import DeadlineExceeded

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_time_left(seconds: float | None) -> None:
    """Gives the present context `seconds` from now, or no limit for None."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


def time_left(at_most: float) -> float:
    """Returns the seconds that the present call may still wait: never more than `at_most`, always more than 0.

    Raises DeadlineExceeded when there are none left.
    """
    deadline = _deadline.get()
    if deadline is None:
        return at_most
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded
    return min(left, at_most)


def is_over() -> bool:
    """Says whether the present call has used up its time."""
    deadline = _deadline.get()
    return deadline is not None and deadline <= time.monotonic()
