"""Refuses calls beyond what the process can have under way at once."""

from typing import Any

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.rpc.arrivals import Arrivals
from killrvideo_grpc.rpc.call import Call, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler


class AdmissionInterceptor:
    """Lets `most` calls in at once. Those whose message has not arrived yet don't count: they cost only memory.

    Methods of the services `unlimited` are never refused: whether the process is alive must be known under load too.
    """

    def __init__(self, most: int, arrivals: Arrivals, unlimited: frozenset[str]) -> None:
        self._most = most
        self._arrivals = arrivals
        self._unlimited = unlimited
        self._under_way = 0

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        if method.split("/")[1] in self._unlimited:
            return proceed

        async def admitted(call: Call) -> Any:
            if self._under_way - self._arrivals.awaited >= self._most:
                raise Overloaded
            self._under_way += 1
            try:
                return await proceed(call)
            finally:
                self._under_way -= 1

        return admitted
