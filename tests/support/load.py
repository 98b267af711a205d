"""Callers who make calls all the time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Semaphore
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def load(calls: Sequence[Callable[[], T]], expected: T, pause: Callable[[], float]) -> Iterator[Callable[[int], None]]:
    """Repeat each call on a thread of its own, and provide a wait for further answers. All must be `expected`.

    `pause` returns the seconds between two calls of a caller.
    """
    answered, ended = Semaphore(0), Event()

    def repeat(call: Callable[[], T]) -> set[T]:
        answers = set[T]()
        while not ended.wait(pause()):
            answers.add(call())
            answered.release()
        return answers

    def wait_for(count: int) -> None:
        for _ in range(count):
            assert answered.acquire(timeout=30)

    with ThreadPoolExecutor(len(calls)) as callers:
        repeating = [callers.submit(repeat, call) for call in calls]
        try:
            wait_for(100)
            yield wait_for
        finally:
            ended.set()
        assert set[T]().union(*(each.result(60) for each in repeating)) == {expected}
