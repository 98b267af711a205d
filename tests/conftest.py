"""Fixtures for all tests."""

import io
import sys
from typing import TextIO, cast

import hypothesis
import pytest
import structlog

# A busy machine makes any example slow, and the servers that examples go to are shared.
hypothesis.settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("shared machine")


class _Captured(io.TextIOBase):
    """Standard output while pytest captures it. What servers log between two tests would go to the terminal."""

    def write(self, text: str) -> int:
        output = sys.stdout
        return len(text) if output is sys.__stdout__ else output.write(text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("capture") != "no":
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Captured())))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"
