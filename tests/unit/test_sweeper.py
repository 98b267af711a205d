"""Sweeps continue, whatever a sweep raises."""

import asyncio

import pytest

from killrvideo_grpc.domain.errors import StoreUnavailable, UnusableStore
from killrvideo_grpc.service import sweeper
from killrvideo_grpc.service.sweeper import Sweeper
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.anyio


class SweptStore(MemoryStore):
    """A store whose sweeps fail, each in a different way, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = [StoreUnavailable(), UnusableStore(), KeyError("planted")]
        self.all_swept = asyncio.Event()

    async def sweep(self) -> int:
        if not self.failures:
            self.all_swept.set()
            return 0
        raise self.failures.pop()


async def test_no_failure_ends_the_sweeps(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sweeper, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(sweeper, "MAX_SECONDS", 0.0)
    store = SweptStore()
    running = Sweeper(store)
    running.start()
    async with asyncio.timeout(10):
        await store.all_swept.wait()
    await running.stop()
    assert "sweep failed: KeyError" in caplog.text
    assert "planted" not in caplog.text
