"""The ports of the service, and why one can't be used."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import SetupError


def worker_ports(settings: Settings) -> list[int]:
    """Return a port per worker: consecutive from GRPC_PORT, or free ones if that is 0. Raise SetupError."""
    if settings.grpc_port:
        return [settings.grpc_port + worker for worker in range(settings.workers)]
    with ExitStack() as stack:  # bound at the same time, they differ
        try:
            bound = [stack.enter_context(next(bound_sockets(settings))) for _ in range(settings.workers)]
            return [each.getsockname()[1] for each in bound]
        except (OSError, UnicodeError) as error:
            raise cannot_listen(settings, error) from None


def bound_sockets(settings: Settings) -> Iterator[socket.socket]:
    """Yield a bound socket for each address of the host."""
    for family, kind, protocol, _, address in socket.getaddrinfo(
        settings.grpc_host, settings.grpc_port, type=socket.SOCK_STREAM
    ):
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        yield bound


def cannot_listen(settings: Settings, error: Exception) -> SetupError:
    """Return the error for an address that can't be bound."""
    cause = getattr(error, "strerror", None) or "the address can't be used"
    address = settings.address(settings.grpc_port)
    return SetupError(f"Can't listen on {address}: {cause}. Set GRPC_HOST and GRPC_PORT to a free address.")
