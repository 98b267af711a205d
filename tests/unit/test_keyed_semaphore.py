"""Permits by key."""

import asyncio
import gc
import weakref

import pytest

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.service.keyed_semaphore import MAX_WAITING, KeyedSemaphore

pytestmark = pytest.mark.anyio


class Key:
    """A key that tells when nobody holds it any more."""


async def hold(semaphore: KeyedSemaphore, key: Key, end: asyncio.Event) -> None:
    async with semaphore.acquire([key]):
        await end.wait()


async def use(semaphore: KeyedSemaphore, key: Key) -> list[type]:
    """Let callers hold it in turn, of whom one leaves while it waits, and one is refused. Return how each ended."""
    end = asyncio.Event()
    callers = [asyncio.create_task(hold(semaphore, key, end)) for _ in range(MAX_WAITING + 2)]
    await asyncio.sleep(0)
    callers[1].cancel()
    end.set()
    return [type(outcome) for outcome in await asyncio.gather(*callers, return_exceptions=True)]


async def test_keys_out_of_use_take_no_memory() -> None:
    semaphore, key = KeyedSemaphore(1), Key()
    outcomes = await use(semaphore, key)
    assert outcomes == [type(None), asyncio.CancelledError, *[type(None)] * (MAX_WAITING - 1), Overloaded]
    unused = weakref.ref(key)
    del key
    await asyncio.sleep(0)  # the event loop lets go of the tasks
    gc.collect()
    assert unused() is None


async def test_keys_are_independent() -> None:
    semaphore, end = KeyedSemaphore(1), asyncio.Event()
    holder = asyncio.create_task(hold(semaphore, Key(), end))
    await asyncio.sleep(0)
    async with asyncio.timeout(10), semaphore.acquire([Key()]):
        assert not holder.done()
    end.set()
    await holder
