"""Fixtures for all tests."""

import gc
import io
import os
import sys
from typing import TextIO, cast

import pytest
import xdist

gc.disable()  # imports leave no garbage
pytest_plugins = ["anyio.pytest_plugin"]  # after `pythonpath` is set, which hides trio
os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"  # the only one is trio's, which is hidden


class _Captured(io.TextIOBase):
    """Standard output while pytest captures it. What servers log between two tests would go to the terminal."""

    def write(self, text: str) -> int:
        output = sys.stdout
        return len(text) if output is sys.__stdout__ else output.write(text)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Configure what tests use. pytest-xdist's main process runs none."""
    if xdist.is_xdist_controller(session):
        return
    import structlog
    from hypothesis import HealthCheck, settings

    if session.config.getoption("capture") != "no":
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Captured())))
    # A busy machine makes any example slow, and the servers that examples go to are shared.
    ignored = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    settings.register_profile("shared machine", deadline=None, suppress_health_check=ignored)
    settings.load_profile("shared machine")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Let garbage collections skip the imported modules and collected tests, which take a second to search."""
    gc.enable()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio: uvloop would keep back the signal of a timeout."""
    return "asyncio"
