"""An event loop on a thread of its own, so that synchronous tests can use asynchronous code."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from killrvideo_grpc.server.lifecycle import new_event_loop

T = TypeVar("T")

NewLoop = Callable[[], asyncio.AbstractEventLoop]

PATIENCE = 60.0


class LoopThread:
    """Runs coroutines on its loop, by default of the service's kind."""

    def __init__(self, new_loop: NewLoop = new_event_loop) -> None:
        self.loop = new_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and return or raise what it does."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def loop_thread(new_loop: NewLoop = new_event_loop) -> Iterator[LoopThread]:
    """Provide a loop on a thread."""
    thread = LoopThread(new_loop)
    try:
        yield thread
    finally:
        thread.close()
