"""Background work: one job at a time for each key, whose newest job is never lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from killrvideo_grpc.stores.astra.background import Background

pytestmark = pytest.mark.anyio


def recorder(done: list[int], number: int) -> Callable[[], Awaitable[None]]:
    async def job() -> None:
        await asyncio.sleep(0)
        done.append(number)

    return job


@pytest.mark.parametrize("turns", range(8))
async def test_a_job_that_starts_as_another_ends_is_run(turns: int) -> None:
    background, done = Background(), list[int]()
    background.start("key", recorder(done, 1))
    for _ in range(turns):  # turns of the loop, in one of which the first job ends
        await asyncio.sleep(0)
    background.start("key", recorder(done, 2))
    await background.finish()
    assert done[-1] == 2


async def test_a_job_replaces_one_with_the_same_key_that_has_not_begun() -> None:
    background, done = Background(), list[int]()
    for number in range(5):
        background.start("key", recorder(done, number))
    background.start("other", recorder(done, 9))
    await background.finish()
    assert sorted(done) == [4, 9]


async def test_a_job_that_fails_stops_no_other() -> None:
    background, done = Background(), list[int]()

    async def fail() -> None:
        background.start("key", recorder(done, 1))
        raise ValueError

    background.start("key", fail)
    await background.finish()
    assert done == [1]
