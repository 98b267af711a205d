"""How a store keeps a counter of attempts: as one whole number, the window times CAPACITY plus the count in it.

Numbers of a later window are greater than all of an earlier one, so `max` begins a window and adding one counts in it.
Nothing has to be removed when a window is over.
"""

CAPACITY = 2**20  # attempts in a window; with the windows of this century it all fits into 53 bits, as JSON wants it


def beginning(window: int) -> int:
    """Returns the value of a counter at the beginning of a window."""
    return window * CAPACITY


def is_of(window: int, value: int) -> bool:
    """Says whether the value counts for the window: it is of this one, or of the next by a clock that is ahead."""
    return beginning(window) <= value < beginning(window + 2)


def is_too_far(window: int, value: int) -> bool:
    """Says whether a clock that was wrong has left the value."""
    return value >= beginning(window + 2)


def count_of(window: int, value: int) -> int:
    """Returns the count for the window."""
    return value % CAPACITY if is_of(window, value) else 0
