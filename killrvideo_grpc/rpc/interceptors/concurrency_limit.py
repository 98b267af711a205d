"""Refuses calls while the process is already handling as many as it may."""

from typing import Any

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.rpc.call import Call, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler


class AdmissionInterceptor:
    """Lets at most `most` calls be handled at once. Calls waiting for their message don't count: they only cost memory.

    Methods of the services in `unlimited` are never refused, so that health checks work under load too.
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
        """Gives the call a place. Raises Overloaded if none is free."""
        if len(self._working) >= self._most:
            raise Overloaded
        self._working.add(call)

    def release(self, call: Call) -> None:
        """Frees the place of the call, if it has one."""
        self._working.discard(call)
