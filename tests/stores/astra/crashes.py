"""Crashes at any request, and lost answers, on the fake Data API."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.astra.store import AstraStore
from tests.support.fake_data_api import Close, ErrorAnswer, FakeDataApi, Garbage, HttpStatus, Truncate

# Faults after which the outcome of the request is unknown.
LOST = [
    *(Close(), Close(reset=True), Garbage(), Truncate()),
    *(HttpStatus(500), HttpStatus(503), ErrorAnswer("UNEXPECTED_DRIVER_ERROR")),
]


def crashing_within(requests: int) -> pytest.MarkDecorator:
    """Run a test for each number of requests, of a call and its background work, that are carried out before the crash.

    The answer to every second one is lost: a request does the same whether its answer arrives or not.
    """
    return pytest.mark.parametrize(("steps", "is_lost"), [(n - n % 2, n % 2 == 1) for n in range(requests + 1)])


@contextmanager
def cut_off(server: FakeDataApi, steps: int, *, is_lost: bool) -> Iterator[None]:
    """Let `steps` requests through, then none, like a crash. If `is_lost`, carry out one more without answering."""
    lost = server.fail(Close(), skip=steps, times=1 if is_lost else 0, after_write=True)
    with server.fail(Close(), skip=steps + is_lost):
        yield
    lost.clear()


async def crash(
    server: FakeDataApi, store: AstraStore, call: Callable[[], Awaitable[object]], steps: int, *, is_lost: bool
) -> bool:
    """Make a call that crashes after `steps` requests. Return whether it was answered before."""
    with cut_off(server, steps, is_lost=is_lost):
        try:
            await call()
        except StoreUnavailable:
            return False
        finally:
            await store.finish()
    return True
