"""Refuses calls beyond what the process can have under way at once."""

from typing import Any

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.rpc.call import Call, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler


class AdmissionInterceptor:
    """Lets `most` calls work at once. A call gives its slot up while it waits for its message: that costs only memory.

    Methods of the services `unlimited` are never refused: whether the process is alive must be known under load too.
    """

    def __init__(self, most: int, unlimited: frozenset[str]) -> None:
        self._free = most
        self._unlimited = unlimited

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        if method.split("/")[1] in self._unlimited:
            return proceed

        async def admitted(call: Call) -> Any:
            call.slot = slot = _Slot(self)
            slot.take()
            try:
                return await proceed(call)
            finally:
                slot.release()

        return admitted

    def take(self) -> None:
        """Takes a slot. Raises Overloaded when there is none."""
        if self._free <= 0:
            raise Overloaded
        self._free -= 1

    def release(self) -> None:
        """Gives a slot back."""
        self._free += 1


class _Slot:
    """The slot of one call, which it may or may not hold."""

    def __init__(self, admission: AdmissionInterceptor) -> None:
        self._admission = admission
        self._is_held = False

    def take(self) -> None:
        self._admission.take()
        self._is_held = True

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._admission.release()
