"""The value of a counter of attempts: one integer, the number of the window times CAPACITY plus the count in it.

All values of a later window are greater than those of an earlier one. So a window is begun by taking the maximum of the
value and the window's first one, an attempt is counted by adding one, and nothing has to be removed after a window.
"""

CAPACITY = 2**20  # attempts per window; values stay below 2^53, which JSON can represent exactly, in this century


def beginning(window: int) -> int:
    """Return the value of a counter when a window begins."""
    return window * CAPACITY


def is_of(window: int, value: int) -> bool:
    """Return whether the value belongs to the window, or to the next one, as another process's clock may be ahead."""
    return beginning(window) <= value < beginning(window + 2)


def is_too_far(window: int, value: int) -> bool:
    """Return whether the value is so far in the future that a wrong clock must have written it."""
    return value >= beginning(window + 2)


def count_of(window: int, value: int) -> int:
    """Return the count in the window; 0 if the value belongs to another window."""
    return value % CAPACITY if is_of(window, value) else 0
