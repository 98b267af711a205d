"""The address that the service listens on, its connection settings and certificates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import structlog
from grpc import aio

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.config.tls import certificate_expiry, check_client_ca, check_tls_pair
from killrvideo_grpc.domain.instrumentation import Instrumentation
from killrvideo_grpc.server.ports import bound_sockets, cannot_listen

# Seconds that calls may go on once their connection has reached its maximum age: as long as a full hashing queue takes.
CONNECTION_AGE_GRACE = 30
# Seconds between keepalive pings, with or without calls. A client gets GOAWAY at its third ping that comes earlier.
MIN_PING_INTERVAL = 30
EXPIRY_WARNING = timedelta(days=14)

_log = structlog.get_logger()


def connection_options(settings: Settings) -> list[tuple[str, int]]:
    """Return the grpcio options for the port and its connections."""
    options = [
        # With SO_REUSEPORT, two services could silently share a port.
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL * 1000),
        ("grpc.http2.max_ping_strikes", 2),
        # No HPACK table for requests: grpcio would keep entries that it can't parse, and fail all later calls on the
        # connection that refer to them. At the edge, all callers share a connection.
        ("grpc.http2.hpack_table_size.decoder", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if age := settings.max_connection_age_seconds:
        options += [
            ("grpc.max_connection_age_ms", age * 1000),
            ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_GRACE * 1000),
        ]
    return options


def bind(server: aio.Server, settings: Settings, instrumentation: Instrumentation) -> int:
    """Bind the server to its address, with TLS if the settings ask for it, and return the port. Raise SetupError."""
    address, credentials = settings.address(settings.grpc_port), _credentials(settings, instrumentation)
    try:
        # Try with plain sockets first: if grpcio can't bind, it doesn't report why and prints lines of its own.
        for probe in bound_sockets(settings):
            probe.close()
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except (OSError, RuntimeError, UnicodeError) as error:  # UnicodeError: not a valid host name
        raise cannot_listen(settings, error) from None


def _credentials(settings: Settings, instrumentation: Instrumentation) -> grpc.ServerCredentials | None:
    if not (settings.tls_cert_file and settings.tls_key_file):
        return None
    files = _TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file, instrumentation)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.read_if_changed,  # type: ignore[arg-type] # it may return None, says grpcio's documentation
        require_client_authentication=settings.tls_client_ca_file is not None,
    )


class _TlsFiles:
    """The certificate, its key and the client CA. The files may be replaced while the service runs."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None, instrumentation: Instrumentation) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._instrumentation = instrumentation
        self._loaded = self._versions()
        self._report_expiry()

    def read(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._key.read_bytes(), self._certificate.read_bytes())
        client_ca = self._client_ca.read_bytes() if self._client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], client_ca)

    def read_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificates for new connections, or None if they are unchanged or don't fit together.

        grpcio calls this before each handshake, on its own threads.
        """
        versions = self._versions()
        if versions == self._loaded:
            return None
        try:
            check_tls_pair(self._certificate, self._key)
            if self._client_ca:
                check_client_ca(self._client_ca)
            changed = self.read()
        except (OSError, ValueError) as error:
            self._loaded = versions  # log this once, not for each connection
            _log.error("certificate not reloaded", cause=str(error))
            return None
        if self._versions() != versions:  # replaced while they were read
            return None
        self._loaded = versions
        _log.info("certificate reloaded")
        self._report_expiry()
        return changed

    def _report_expiry(self) -> None:
        try:
            expiry = certificate_expiry(self._certificate)
        except (OSError, ValueError) as error:  # replaced meanwhile, or not as strict as cryptography demands
            _log.warning("certificate expiry unknown", cause=type(error).__name__)
            return
        self._instrumentation.certificate_loaded(expiry)
        left = expiry - datetime.now(UTC)
        if left < EXPIRY_WARNING:
            event = "certificate expired" if left < timedelta(0) else "certificate expires soon"
            _log.warning(event, expiry=expiry.isoformat())

    def _versions(self) -> list[tuple[int, int] | None]:
        return [_version(file) for file in (self._certificate, self._key, self._client_ca) if file]


def _version(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
