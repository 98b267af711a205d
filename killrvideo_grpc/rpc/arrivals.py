"""How long a caller may keep us waiting for a message."""

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import grpc

LOOK_SECONDS = 1.0  # between two looks at who still waits

Message = TypeVar("Message")


class Arrivals:
    """Cancels calls whose next message does not arrive in `seconds`.

    A call that waits keeps a thread, and grpcio would let it do so for as long as its caller likes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[grpc.ServicerContext, float] = {}
        threading.Thread(target=self._watch, name="arrivals", daemon=True).start()

    def next(self, messages: Iterator[Message], context: grpc.ServicerContext) -> Message | None:
        """Returns the next message of a call; None: there are no more. Raises grpc.RpcError when the call ended."""
        self._due[context] = time.monotonic() + self._seconds
        try:
            return next(messages, None)
        finally:
            del self._due[context]

    def all(self, messages: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        """Yields the messages of a stream."""
        while (message := self.next(messages, context)) is not None:
            yield message

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for context, due in self._due.copy().items():
                if due <= now:
                    context.cancel()
