"""Waiting for a condition."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0


def eventually(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Return the first true value of the condition. Fail the test if there is none within `seconds`."""
    give_up_at = time.monotonic() + seconds
    pause = 0.005
    while not (value := condition()):
        assert time.monotonic() < give_up_at, "what was waited for did not happen"
        Event().wait(pause)
        pause = min(1.2 * pause, 0.05)  # polling takes time from what is waited for
    return value
