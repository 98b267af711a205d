"""TLS and mutual TLS. The key under tests/support/tls is for tests alone: it is public, and protects nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub
from pydantic import ValidationError

from tests.support.errors import read_failure
from tests.support.servers import running_server
from tests.support.settings import settings_in

FILES = Path(__file__).parents[1] / "support" / "tls"
CERTIFICATE, KEY = FILES / "certificate.pem", FILES / "key.pem"


@contextmanager
def serving(folder: Path, **changes: object) -> Iterator[str]:
    settings = settings_in(folder, tls_cert_file=CERTIFICATE, tls_key_file=KEY, **changes)
    with running_server(settings) as server:
        yield f"localhost:{server.port}"


def code_of(channel: grpc.Channel) -> grpc.StatusCode:
    with channel, pytest.raises(grpc.RpcError) as caught:
        UserServiceStub(channel).GetMe(GetMeRequest(), timeout=5)
    return read_failure(caught.value).code


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


def test_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="not PEM, or key and certificate do not fit"):
        settings_in(tmp_path, tls_cert_file=KEY, tls_key_file=CERTIFICATE)
