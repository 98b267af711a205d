"""Secret keys: well-known and guessable ones are rejected, random ones accepted."""

import base64
import os
import secrets
import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.security.keys import check_secret_key, load_or_create_key

KNOWN = [
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "your-256-bit-secret-your-256-bit-secret",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
    "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
    "413F4428472B4B6250655368566D5970337336763979244226452948404D6351",
    "357538782F413F4428472B4B6250655368566D59703373367639792442264529",
    "======================BezKoder=Spring===========================",
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
]
GUESSED = [
    "1234567890" * 4,
    "0" * 63 + "1",
    "0123456789abcdef" * 4,
    "deadbeef" * 8,
    "112233445566778899001122334455667788",
    "1111111122222222333333334444444455555555",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "qwertyuiopasdfghjklzxcvbnmqwertyuiop",
    "passwordpasswordpasswordpassword12",
    "ä" * 40,
    "1q2w3e4r5t6y7u8i9o0pzaxscdvfbgnhmj",
    "1q2w3e4r5t6y7u8i9o0p" * 3,
]
RANDOM: dict[str, Callable[[], str]] = {
    "openssl rand -hex 32": lambda: secrets.token_hex(32),
    "openssl rand -hex 16": lambda: secrets.token_hex(16),
    "openssl rand -hex 64": lambda: secrets.token_hex(64),
    "openssl rand -base64 24": lambda: base64.b64encode(secrets.token_bytes(24)).decode(),
    "openssl rand -base64 32": lambda: base64.b64encode(secrets.token_bytes(32)).decode(),
    "openssl rand -base64 64": lambda: base64.b64encode(secrets.token_bytes(64)).decode(),
    "secrets.token_urlsafe()": secrets.token_urlsafe,
    "secrets.token_urlsafe(24)": lambda: secrets.token_urlsafe(24),
    "digits": lambda: "".join(secrets.choice(string.digits) for _ in range(40)),
}


@pytest.mark.parametrize("key", KNOWN)
def test_well_known_keys_are_rejected(key: str) -> None:
    with pytest.raises(ValueError, match="is a well-known example key"):
        check_secret_key(key)


@pytest.mark.parametrize("key", GUESSED)
def test_keys_that_are_easy_to_guess_are_rejected(key: str) -> None:
    with pytest.raises(ValueError, match="is easy to guess"):
        check_secret_key(key)


@pytest.mark.parametrize("source", RANDOM)
def test_random_keys_are_accepted(source: str) -> None:
    for _ in range(10):
        check_secret_key(RANDOM[source]())


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o604, 0o620, 0o610])
def test_a_file_that_others_can_use_is_refused_with_ways_out(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(SetupError, match=r"chmod 600 .*fsGroupChangePolicy: OnRootMismatch.*SECRET_KEY"):
        load_or_create_key(path)


@pytest.fixture
def key_of_root() -> Iterator[Path]:
    """A key file of root's in a folder that everyone can enter, while this process has another user id."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of root's")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "key")
        load_or_create_key(path)
        yield path


@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_the_group_may_read_a_key_of_root(key_of_root: Path, mode: int) -> None:
    key_of_root.chmod(mode)
    assert _as_another_user(key_of_root) == key_of_root.read_text().strip()


@pytest.mark.parametrize("mode", [0o660, 0o644, 0o650])
def test_others_may_not_use_a_key_of_root(key_of_root: Path, mode: int) -> None:
    key_of_root.chmod(mode)
    with pytest.raises(SetupError, match="can be read by others"):
        _as_another_user(key_of_root)


def _as_another_user(path: Path) -> str:
    os.seteuid(65534)
    try:
        return load_or_create_key(path)
    finally:
        os.seteuid(0)
