"""A call in progress, as the interceptors and the servicer see it."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from killrvideo_grpc.service.authentication import Principal
from killrvideo_grpc.service.service_authentication import ServicePrincipal

if TYPE_CHECKING:
    from grpc import aio

Context: TypeAlias = "aio.ServicerContext[Any, Any]"


@dataclass(slots=True, eq=False)
class Call:
    """What the interceptors know about a call, in the order in which they learn it."""

    metadata: tuple[tuple[str, str | bytes], ...] = field(repr=False)
    context: Context = field(init=False)
    request_id: str = ""
    message: Any = field(default=None, repr=False)  # bytes, or an async iterator of bytes if the method takes a stream
    principal: Principal | ServicePrincipal | None = None  # None for public methods
    request: Any = field(default=None, repr=False)  # the validated message, or an async iterator of them
    code: str = "OK"  # the status code, set by the chain when the call ends
    reason: str | None = None  # the reason in the error table, if it ends in such an error


CallNext: TypeAlias = Callable[[Call], Awaitable[Any]]
"""The rest of the chain: runs the call and returns the response."""

current_call: ContextVar[Call] = ContextVar("current_call")
"""The call that the current task handles."""
