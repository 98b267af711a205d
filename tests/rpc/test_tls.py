"""TLS and mutual TLS. The key under tests/support/tls is only for tests: it is public and protects nothing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from killrvideo.user.v1.user_service_pb2 import GetMeRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub
from pydantic import ValidationError

from killrvideo_grpc.config.tls import certificate_expiry
from tests.support.errors import read_failure
from tests.support.metrics import Scraped
from tests.support.ports import free_port
from tests.support.servers import running_server
from tests.support.settings import settings_in

FILES = Path(__file__).parents[1] / "support" / "tls"
CERTIFICATE, KEY = FILES / "certificate.pem", FILES / "key.pem"
RENEWED = FILES / "renewed"


@contextmanager
def serving(folder: Path, **changes: object) -> Iterator[str]:
    settings = settings_in(folder, tls_cert_file=CERTIFICATE, tls_key_file=KEY, **changes)
    with running_server(settings) as server:
        yield f"localhost:{server.port}"


def code_of(channel: grpc.Channel) -> grpc.StatusCode:
    with channel, pytest.raises(grpc.RpcError) as caught:
        UserServiceStub(channel).GetMe(GetMeRequest(), timeout=5)
    return read_failure(caught.value).code


def trusting(certificate: Path) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(certificate.read_bytes())


def connected(target: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
    """Return a channel with its own connection."""
    channel = grpc.secure_channel(target, credentials, [("grpc.use_local_subchannel_pool", 1)])
    grpc.channel_ready_future(channel).result(10)
    return channel


def code_on(target: str, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    """Call the service on a new connection."""
    return code_of(grpc.secure_channel(target, credentials, [("grpc.use_local_subchannel_pool", 1)]))


def test_tls(tmp_path: Path) -> None:
    trusting = grpc.ssl_channel_credentials(CERTIFICATE.read_bytes())
    with serving(tmp_path) as target:
        assert code_of(grpc.secure_channel(target, trusting)) is grpc.StatusCode.UNAUTHENTICATED
        assert code_of(grpc.secure_channel(target, grpc.ssl_channel_credentials())) is grpc.StatusCode.UNAVAILABLE
        assert code_of(grpc.insecure_channel(target)) is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls(tmp_path: Path) -> None:
    authority = CERTIFICATE.read_bytes()
    known = grpc.ssl_channel_credentials(authority, KEY.read_bytes(), authority)
    with serving(tmp_path, tls_client_ca_file=CERTIFICATE) as target:
        assert code_of(grpc.secure_channel(target, known)) is grpc.StatusCode.UNAUTHENTICATED
        unknown = grpc.ssl_channel_credentials(authority)
        assert code_of(grpc.secure_channel(target, unknown)) is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_needs_no_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As long as only one of the two files is replaced, the old pair stays in use."""
    old, new = trusting(CERTIFICATE), trusting(RENEWED / "certificate.pem")
    files = {"tls_cert_file": tmp_path / "certificate.pem", "tls_key_file": tmp_path / "key.pem"}
    shutil.copy(CERTIFICATE, tmp_path)
    shutil.copy(KEY, tmp_path)
    with running_server(settings_in(tmp_path, **files)) as server:
        target = f"localhost:{server.port}"
        with connected(target, old) as connection:
            shutil.copy(RENEWED / "certificate.pem", tmp_path)
            assert code_on(target, old) is grpc.StatusCode.UNAUTHENTICATED
            assert "certificate not reloaded" in capsys.readouterr().out
            assert code_on(target, old) is grpc.StatusCode.UNAUTHENTICATED
            assert "certificate not reloaded" not in capsys.readouterr().out
            shutil.copy(RENEWED / "key.pem", tmp_path)
            assert code_on(target, new) is grpc.StatusCode.UNAUTHENTICATED
            assert code_on(target, old) is grpc.StatusCode.UNAVAILABLE
            assert "certificate reloaded" in capsys.readouterr().out
            assert code_of(connection) is grpc.StatusCode.UNAUTHENTICATED
            (tmp_path / "key.pem").unlink()
            assert code_on(target, new) is grpc.StatusCode.UNAUTHENTICATED


def test_a_renewed_client_ca_needs_no_restart(tmp_path: Path) -> None:
    authority = CERTIFICATE.read_bytes()
    known = grpc.ssl_channel_credentials(authority, KEY.read_bytes(), authority)
    ca = tmp_path / "ca.pem"
    shutil.copy(RENEWED / "certificate.pem", ca)
    with serving(tmp_path, tls_client_ca_file=ca) as target:
        assert code_on(target, known) is grpc.StatusCode.UNAVAILABLE
        shutil.copy(CERTIFICATE, ca)
        assert code_on(target, known) is grpc.StatusCode.UNAUTHENTICATED


def test_files_that_are_not_a_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="not PEM, or the key does not match the certificate"):
        settings_in(tmp_path, tls_cert_file=KEY, tls_key_file=CERTIFICATE)


def write_pair(folder: Path, days_left: float) -> datetime:
    """Write a chain whose first certificate expires in some days, and its key. Return when it expires."""
    expiry = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days_left)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(expiry - timedelta(days=90)).not_valid_after(expiry)
    certificate = builder.sign(key, hashes.SHA256())
    chain = certificate.public_bytes(Encoding.PEM) + CERTIFICATE.read_bytes()
    (folder / "certificate.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return expiry


@pytest.mark.parametrize(
    ("days_left", "event"), [(-2000, "certificate expired"), (13.9, "certificate expires soon"), (14.1, None)]
)
def test_the_expiry_of_a_certificate_is_logged_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days_left: float, event: str | None
) -> None:
    """At start and when the files are replaced."""
    files = {"tls_cert_file": tmp_path / "certificate.pem", "tls_key_file": tmp_path / "key.pem"}
    metrics = free_port()

    def check(expiry: datetime) -> None:
        printed = capsys.readouterr().out
        assert [name for name in ("certificate expired", "certificate expires soon") if name in printed] == (
            [event] if event else []
        )
        assert Scraped(metrics).value("certificate_expiry_timestamp_seconds") == expiry.timestamp()

    expiry = write_pair(tmp_path, days_left)
    with running_server(settings_in(tmp_path, metrics_port=metrics, **files)) as server:
        check(expiry)
        expiry = write_pair(tmp_path, days_left - 0.05)
        assert code_on(f"localhost:{server.port}", trusting(CERTIFICATE)) is grpc.StatusCode.UNAVAILABLE
        check(expiry)


def test_the_first_certificate_of_a_chain_to_expire_counts(tmp_path: Path) -> None:
    expiry = write_pair(tmp_path, 1)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(CERTIFICATE.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    assert certificate_expiry(chain) == expiry
