"""The address that the service listens on, and the ports of its workers."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
from grpc import aio

from killrvideo_grpc.config import Settings


class CannotListen(Exception):
    """The service can't listen on its address. The text says which, and what to do."""


def listen(server: aio.Server, settings: Settings) -> int:
    """Binds the server to its address, with TLS if the settings ask for it, and returns the port.

    Raises CannotListen.
    """
    address = settings.address(settings.grpc_port)
    credentials = _credentials(settings)
    try:
        # Tried first, because grpcio doesn't say why it can't bind, and prints lines of its own.
        for probe in _bound(settings):
            probe.close()
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        raise _cannot_listen(settings, error) from None


def free_ports(settings: Settings) -> list[int]:
    """Returns a port for each worker: consecutive ones from GRPC_PORT on, or free ones for 0. Raises CannotListen."""
    if settings.grpc_port:
        return [settings.grpc_port + worker for worker in range(settings.workers)]
    with ExitStack() as held:  # held together, so that they differ
        try:
            holders = [held.enter_context(next(_bound(settings))) for _ in range(settings.workers)]
            return [holder.getsockname()[1] for holder in holders]
        except OSError as error:
            raise _cannot_listen(settings, error) from None


def _cannot_listen(settings: Settings, error: Exception) -> CannotListen:
    cause = getattr(error, "strerror", None) or "the address can't be used"
    address = settings.address(settings.grpc_port)
    return CannotListen(f"Can't listen on {address}: {cause}. Set GRPC_HOST and GRPC_PORT to a free one.")


def _bound(settings: Settings) -> Iterator[socket.socket]:
    """Yields a socket for each address of the host."""
    for family, kind, protocol, _, address in socket.getaddrinfo(
        settings.grpc_host, settings.grpc_port, type=socket.SOCK_STREAM
    ):
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        yield bound


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if not (settings.tls_cert_file and settings.tls_key_file):
        return None
    pair = (settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())
    client_ca = settings.tls_client_ca_file.read_bytes() if settings.tls_client_ca_file else None
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
