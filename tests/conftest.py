"""Fixtures for all tests."""

import io
import sys
from typing import TextIO, cast

import pytest
import structlog


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
