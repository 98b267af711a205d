"""The address that the service listens on, its connection settings and certificates, and its workers' ports."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import structlog
from grpc import aio

from killrvideo_grpc.config.settings import Settings, check_tls
from killrvideo_grpc.domain.errors import SetupError

# How long calls may go on once their connection has reached its maximum age: as long as a full hashing queue takes.
LAST_CALLS_SECONDS = 30
# Allows the usual gRPC keepalive of a minute or more, with or without calls. A client that pings more often than this
# gets GOAWAY (too_many_pings) at its third such ping.
MIN_PING_SECONDS = 30

_log = structlog.get_logger("killrvideo_grpc.listening")


class Listener:
    """The address that the server listens on, with its certificates and the limits of its connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def options(self) -> list[tuple[str, int]]:
        """Returns the grpcio options for the port and its connections."""
        options = [
            # With SO_REUSEPORT, two services could silently share a port; a port that is taken must be an error.
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_SECONDS * 1000),
            ("grpc.http2.max_ping_strikes", 2),
            # No HPACK table for requests: grpcio also keeps entries that it can't parse, and all callers of the edge
            # share a connection, so one caller's invalid header could fail other callers' calls.
            ("grpc.http2.hpack_table_size.decoder", 0),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        if age := self._settings.max_connection_age_seconds:
            options += [
                ("grpc.max_connection_age_ms", age * 1000),
                ("grpc.max_connection_age_grace_ms", LAST_CALLS_SECONDS * 1000),
            ]
        return options

    def bind(self, server: aio.Server) -> int:
        """Binds the server to its address, with TLS if the settings ask for it, and returns the port.

        Raises SetupError.
        """
        settings = self._settings
        address, credentials = settings.address(settings.grpc_port), _credentials(settings)
        try:
            # Try with plain sockets first: if grpcio can't bind, it doesn't report why and prints lines of its own.
            for probe in _bound(settings):
                probe.close()
            return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        except (OSError, RuntimeError, UnicodeError) as error:  # UnicodeError: not a valid host name
            raise _cannot_listen(settings, error) from None


def worker_ports(settings: Settings) -> list[int]:
    """Returns a port per worker: consecutive from GRPC_PORT, or free ones if that is 0. Raises SetupError."""
    if settings.grpc_port:
        return [settings.grpc_port + worker for worker in range(settings.workers)]
    with ExitStack() as held:  # all bound at the same time, so that they differ
        try:
            holders = [held.enter_context(next(_bound(settings))) for _ in range(settings.workers)]
            return [holder.getsockname()[1] for holder in holders]
        except (OSError, UnicodeError) as error:
            raise _cannot_listen(settings, error) from None


def _cannot_listen(settings: Settings, error: Exception) -> SetupError:
    cause = getattr(error, "strerror", None) or "the address can't be used"
    address = settings.address(settings.grpc_port)
    return SetupError(f"Can't listen on {address}: {cause}. Set GRPC_HOST and GRPC_PORT to a free address.")


def _bound(settings: Settings) -> Iterator[socket.socket]:
    """Yields a bound socket for each address of the host."""
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


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if not (settings.tls_cert_file and settings.tls_key_file):
        return None
    files = _TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.read_if_changed,  # type: ignore[arg-type] # it may return None, says grpcio's documentation
        require_client_authentication=settings.tls_client_ca_file is not None,
    )


class _TlsFiles:
    """The certificate, its key and the client CA. The files may be replaced while the service runs."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._versions = self._look()

    def read(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._key.read_bytes(), self._certificate.read_bytes())
        client_ca = self._client_ca.read_bytes() if self._client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], client_ca)

    def read_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns the certificates for new connections if the files have changed, otherwise None.

        grpcio calls this before each handshake, on its own threads. The old certificates stay in use while only some
        of the files have been replaced, or if the new ones are invalid.
        """
        versions = self._look()
        if versions == self._versions:
            return None
        try:
            check_tls(self._certificate, self._key, self._client_ca)
            changed = self.read()
        except (OSError, ValueError) as error:
            self._versions = versions  # log this once, not for each connection
            _log.error("certificate not reloaded", cause=str(error))
            return None
        if self._look() != versions:  # replaced while they were read
            return None
        self._versions = versions
        _log.info("certificate reloaded")
        return changed

    def _look(self) -> list[tuple[int, int] | None]:
        return [_version(file) for file in (self._certificate, self._key, self._client_ca) if file]


def _version(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
