"""Refuses calls beyond what the process can have under way at once."""

from typing import Any

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.rpc.call import Call, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler


class AdmissionInterceptor:
    """Lets `most` calls work at once. A call gives its place up while it waits for its message: that costs only memory.

    Methods of the services `unlimited` are never refused: whether the process is alive must be known under load too.
    """

    def __init__(self, most: int, unlimited: frozenset[str]) -> None:
        self._most = most
        self._working: set[Call] = set()
        self._unlimited = unlimited

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        if method.split("/")[1] in self._unlimited:
            return proceed

        async def admitted(call: Call) -> Any:
            call.admission = self
            self.take(call)
            try:
                return await proceed(call)
            finally:
                self.release(call)

        return admitted

    def take(self, call: Call) -> None:
        """Lets a call work. Raises Overloaded when there are too many."""
        if len(self._working) >= self._most:
            raise Overloaded
        self._working.add(call)

    def release(self, call: Call) -> None:
        """Gives up the place of a call, if it has one."""
        self._working.discard(call)
