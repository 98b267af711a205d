"""Lets in who the contract lets in: bearer token, live account, role."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import grpc
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.errors import NotAuthenticated, TokenInvalid
from killrvideo_grpc.domain.user import Role, User
from killrvideo_grpc.rpc.interceptors.interceptor import Interceptor

caller: ContextVar[User] = ContextVar("caller")
"""The account behind the present call, as the store had it when the call came in. Not set in public RPCs."""


class AccessInterceptor(Interceptor):
    """Checks each call against the table from `rpc/access.py`. `authenticate` is the service's.

    A public method looks at no token, so a stale one does no harm there. A method that is not in the table is a bug:
    the KeyError ends the call.
    """

    def __init__(self, table: Mapping[str, Role | None], authenticate: Callable[[str, Role], User]) -> None:
        self._table = table
        self._authenticate = authenticate

    @contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        role = self._table[method]
        if role is not None:
            user = self._authenticate(bearer_token(context), role)
            bind_contextvars(user_id=str(user.user_id))
            caller.set(user)
        yield


def bearer_token(context: grpc.ServicerContext) -> str:
    """Returns the token of `authorization: Bearer TOKEN` (RFC 6750). Raises NotAuthenticated when there is none.

    Two such headers are no token: which of them counts, another server may judge otherwise (TokenInvalid).
    """
    headers = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if len(headers) > 1:
        raise TokenInvalid
    scheme, _, token = str(headers[0] if headers else "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated
    return token.strip()
