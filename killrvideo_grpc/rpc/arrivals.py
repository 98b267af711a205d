"""How long a caller may keep us waiting for a message."""

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import grpc

from killrvideo_grpc.rpc.interceptors.pools import BoundedPool, pool_of_this_thread

LOOK_SECONDS = 0.25  # between two looks at who still waits
PRESSED_SECONDS = 0.5  # for a message while other calls wait for the thread; nearly all come with the call itself

Message = TypeVar("Message")


class Arrivals:
    """Cancels calls whose next message does not arrive in `seconds`, or sooner when others wait for a thread.

    A call that waits keeps its thread, and grpcio would let it do so for as long as its caller likes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[grpc.ServicerContext, tuple[float, BoundedPool | None]] = {}
        threading.Thread(target=self._watch, name="arrivals", daemon=True).start()

    def next(self, messages: Iterator[Message], context: grpc.ServicerContext) -> Message | None:
        """Returns the next message of a call; None: there are no more. Raises grpc.RpcError when the call ended."""
        self._waiting[context] = time.monotonic(), pool_of_this_thread()
        try:
            return next(messages, None)
        finally:
            del self._waiting[context]

    def all(self, messages: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        """Yields the messages of a stream."""
        while (message := self.next(messages, context)) is not None:
            yield message

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for context, (since, pool) in self._waiting.copy().items():
                patience = PRESSED_SECONDS if pool and pool.has_queue else self._seconds
                if now - since >= patience:
                    context.cancel()
