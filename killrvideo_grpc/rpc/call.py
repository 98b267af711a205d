"""A call in progress, as the interceptors and the servicer see it."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from killrvideo_grpc.service.authentication import Caller

if TYPE_CHECKING:
    from grpc import aio

Context: TypeAlias = "aio.ServicerContext[Any, Any]"


class Admission(Protocol):
    """Limits how many calls are handled at once."""

    def take(self, call: "Call") -> None:
        """Gives the call a place. Raises Overloaded if none is free."""

    def release(self, call: "Call") -> None:
        """Frees the place of the call, if it has one."""


@dataclass(slots=True, eq=False)
class Call:
    """What the interceptors know about a call.

    `metadata` is what the caller sent. The chain sets `context`, and the interceptors set the rest: logging
    `request_id`, admission `admission` (unless the call is exempt), access `caller` (unless the RPC is public), and
    validation `request`.
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
"""The call that the current task handles."""
