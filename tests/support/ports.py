"""Ports for servers under test."""

import random
import socket
from contextlib import suppress

# Linux gives out ports from 32768 on to connections and to servers that ask for any port.
BELOW_THOSE_GIVEN_OUT = range(20000, 32768)


def free_port() -> int:
    """Return a free port that nobody is likely to take before the caller does."""
    while True:
        port = random.choice(BELOW_THOSE_GIVEN_OUT)
        with socket.socket() as holder, suppress(OSError):
            holder.bind(("127.0.0.1", port))
            return port
