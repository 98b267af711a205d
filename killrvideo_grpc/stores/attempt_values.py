"""The value of a counter of attempts: one integer, the number of the window times CAPACITY plus the count in it.

Later windows have greater values, so a maximum begins a window and nothing has to be removed after one.
"""

CAPACITY = 2**20  # attempts per window; values stay below 2^53, which JSON represents exactly


def beginning(window: int) -> int:
    """Return the value of a counter at the beginning of a window."""
    return window * CAPACITY


def is_of_window(window: int, value: int) -> bool:
    """Return whether the value is of the window, or of the next one, as another process's clock may be ahead."""
    return beginning(window) <= value < beginning(window + 2)


def is_of_distant_window(window: int, value: int) -> bool:
    """Return whether a wrong clock must have written the value."""
    return value >= beginning(window + 2)


def count_of(window: int, value: int) -> int:
    """Return the count; 0 if the value isn't of the window."""
    return value % CAPACITY if is_of_window(window, value) else 0
