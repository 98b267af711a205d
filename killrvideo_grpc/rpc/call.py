"""One RPC under way, as the interceptors and the servicer see it."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from killrvideo_grpc.service.callers import Caller

if TYPE_CHECKING:
    from grpc import aio

Context: TypeAlias = "aio.ServicerContext[Any, Any]"


class Admission(Protocol):
    """The calls that work, of which there may only be so many at once."""

    def take(self, call: "Call") -> None:
        """Lets a call work. Raises Overloaded when there are too many."""

    def release(self, call: "Call") -> None:
        """Gives up the place of a call, if it has one."""


@dataclass(slots=True, eq=False)
class Call:
    """What the interceptors learn of a call as it passes through them.

    `metadata` is the caller's. `context` is set where the chain begins, `request_id` by logging, `admission` by
    admission (where it counts the call), `caller` by access (not for public RPCs), and `request` by validation.
    """

    metadata: tuple[tuple[str, str | bytes], ...]
    context: Context = field(init=False)
    request_id: str = ""
    admission: Admission | None = None
    caller: Caller | None = None
    request: Any = None


Next: TypeAlias = Callable[[Call], Awaitable[Any]]
"""The rest of the chain: runs the call and returns the response."""

current_call: ContextVar[Call] = ContextVar("current_call")
"""The call that the present task works for."""
