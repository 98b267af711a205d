"""The address that `killrvideo-grpc health` asks."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from killrvideo_grpc.cli.health import health
from tests.support.ports import free_port
from tests.support.settings import KEY


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("localhost", "localhost"),
        ("no-such-host.invalid", "no-such-host.invalid"),
    ],
)
def test_it_asks_where_this_machine_reaches_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, asked: str
) -> None:
    """Nothing listens, so the error names the address of each worker."""
    port = free_port()
    monkeypatch.chdir(tmp_path)
    settings = {"SECRET_KEY": KEY, "GRPC_HOST": host, "GRPC_PORT": str(port), "WORKERS": "2", "ALLOW_INSECURE": "true"}
    done = CliRunner().invoke(health, env=settings)
    assert done.exit_code == 1
    lines = done.stderr.removeprefix("Error: ").splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{asked}:{port}", f"{asked}:{port + 1}"]
