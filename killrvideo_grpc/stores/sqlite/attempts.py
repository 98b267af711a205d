"""Counters of attempts in the SQLite file: one row per slot."""

import json
import sqlite3
from collections.abc import Sequence

from killrvideo_grpc.domain.ports import AttemptCounter
from killrvideo_grpc.stores.attempt_values import beginning, count_of

_READ = "SELECT slot, value FROM attempts WHERE slot IN (SELECT value FROM json_each(?))"
# Increments a value of this window (attempt_values.is_of_window); otherwise begins the window with 1.
_COUNT = """
INSERT INTO attempts (slot, value) VALUES (:slot, :beginning + 1)
ON CONFLICT (slot) DO UPDATE SET value = 1 + CASE
    WHEN value >= :beginning AND value < :too_far THEN value ELSE :beginning END
RETURNING value
"""


def read_attempts(connection: sqlite3.Connection, counters: Sequence[AttemptCounter]) -> list[int]:
    """Return the counts in the order of the counters."""
    slots = json.dumps([counter.slot for counter in counters])
    values: dict[int, int] = dict(connection.execute(_READ, (slots,)).fetchall())
    return [count_of(counter.window, values.get(counter.slot, 0)) for counter in counters]


def count_attempt(connection: sqlite3.Connection, counters: Sequence[AttemptCounter]) -> list[int]:
    """Add one to each counter, within the caller's transaction, and return the new counts."""
    return [count_of(counter.window, _count(connection, counter)) for counter in counters]


def _count(connection: sqlite3.Connection, counter: AttemptCounter) -> int:
    values = {
        "slot": counter.slot,
        "beginning": beginning(counter.window),
        "too_far": beginning(counter.window + 2),
    }
    ((value,),) = connection.execute(_COUNT, values).fetchall()
    return int(value)
