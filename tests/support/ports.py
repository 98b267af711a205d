"""Ports for servers under test."""

import socket


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port
