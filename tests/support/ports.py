"""Ports for servers under test."""

import random
import socket
from contextlib import ExitStack, suppress

# Linux gives out ports from 32768 on to connections and to servers that ask for any port.
BELOW_THOSE_GIVEN_OUT = range(20000, 32768)


def free_port(count: int = 1) -> int:
    """Return a free port that nobody is likely to take before the caller does, the first of `count` in a row."""
    while True:
        first = random.choice(BELOW_THOSE_GIVEN_OUT)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
